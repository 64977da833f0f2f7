"""The certificate as text: what this suite has beyond any pair's certificate."""

from typing import Any

from parity_kit.certificate.text import device_lines, device_sections, fact_table


def summary(certificate: Any) -> str:
    """A few lines for the terminal."""
    lines = [
        f"{'PASSED' if certificate.passed else 'FAILED'} in {certificate.seconds:.0f} s"
    ]
    for device, verdict in certificate.devices.items():
        lines += device_lines(certificate.rows, device, verdict)
    good = sum(check["ok"] for check in certificate.checks)
    lines.append(f"truth and failures: {good} of {len(certificate.checks)} checks hold")
    for env_id, run in certificate.shadow.items():
        lines.append(f"lock step on {env_id}: {lock_step_summary(run)}")
    lines.append(f"planted faults: {recorded_faults(certificate)}")
    return "\n".join(lines)


def lock_step_summary(run: dict[str, Any]) -> str:
    """The worst of one environment's lock-step training."""
    a, b = run["worst"]["A"], run["worst"]["B"]
    ties, total = run["ties"]
    return (
        f"{len(run['updates'])} updates; A {a['value']:.1e} ({a['quantity']}), "
        f"B {b['value']:.2f} of {b['bound']:g} ({b['quantity']}, {b['subject']}), "
        f"{ties} ties in {total} decisions"
    )


def code(facts: dict[str, Any]) -> str:
    """The certified commit, and whether it has changes."""
    commit, dirty, _ = facts["commit"].partition("-dirty")
    return f"commit {commit}{' with changes that are not committed' if dirty else ''}"


def recorded_faults(certificate: Any) -> str:
    """A sentence on the planted faults: none in this run; those of the recorded one."""
    recorded = certificate.recorded_faults
    commits, processors = (", ".join(recorded[n]) for n in ("commits", "processors"))
    return (
        f"none in this run; recorded at commit {commits} on {processors}: "
        f"{recorded['caught']} of {recorded['planted']} caught "
        "(here: python -m parity_tests.mutation)"
    )


def facts(certificate: Any) -> dict[str, Any]:
    """What the result depends on."""
    return {**certificate.facts, "closed loop": certificate.closed_loop}


def markdown(certificate: Any) -> str:
    """The certificate as Markdown."""
    lines = [
        "# Parity certificate",
        "",
        f"**{'PASSED' if certificate.passed else 'FAILED'}**, {certificate.mode}, "
        f"{certificate.seconds:.0f} s, {code(certificate.facts)}.",
        "",
        "```",
        summary(certificate),
        "```",
        "",
        *fact_table(facts(certificate)),
        *device_sections(certificate),
    ]
    bad = [check for check in certificate.checks if not check["ok"]]
    lines += ["", "## Truth and failures", ""]
    lines += [f"- **{check['name']}**: {check['message']}" for check in bad]
    lines += [
        f"{len(certificate.checks) - len(bad)} of {len(certificate.checks)} hold."
    ]
    return "\n".join(lines) + "\n"
