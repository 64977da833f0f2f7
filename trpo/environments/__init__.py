"""Making environments; vectors of them: in process, in workers, Ray, EnvPool."""

from trpo.environments.make import (
    make_environment as make_environment,
    make_vector_environment as make_vector_environment,
)
