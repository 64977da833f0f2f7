"""Making environments; vectors of them: in process, in workers, Ray, EnvPool."""
