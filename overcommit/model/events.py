"""Every event that the daemon logs, each defined here only. Pure.

A definition has the event's name, its MESSAGE_ID (128 bits, chosen once at random: never change one), its
priority, the fields that it may have, whether it is logged once while it repeats, and its sentence.
docs/events.md and the message catalog (``daemon/overcommit.catalog``) explain each; tests compare them.
"""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.model.action import Action, KsmAction, name_of, subject_of
from overcommit.model.facts import Incarnation
from overcommit.model.log_event import Definition, Field, Fields, Kind, Priority, Told, defined
from overcommit.model.outcome import Outcome, Status
from overcommit.model.past import Quarantine
from overcommit.units import format_duration, format_size

_DOMAIN = (Field.DOMAIN, Field.DOMAIN_UUID)
LEFT = "left"
"""How an action that was given up amid its work ended: what it had done stays."""


def _of(incarnation: Incarnation | None) -> Fields:
    if incarnation is None:
        return {}
    return {Field.DOMAIN: incarnation.name, Field.DOMAIN_UUID: incarnation.uuid}


def _of_action(action: Action) -> Fields:
    incarnation = None if isinstance(action, KsmAction) else action.domain
    return {**_of(incarnation), Field.MECHANISM: name_of(action)}


# The daemon itself


@defined(
    "started", "cf34521a64e74e82993a8f107bd1a685", Priority.NOTICE, Field.VERSION, Field.POLICY, Field.MODE
)
def started(version: str, policy: str, mode: str) -> Told:
    """It is about to look at the host for the first time."""
    fields = {Field.VERSION: version, Field.POLICY: policy, Field.MODE: mode}
    return Told(f"overcommitd {version} starts; policy {policy}", fields)


@defined("stopping", "63088d59f65248dc8bb5813365bc1c0b", Priority.NOTICE)
def stopping() -> Told:
    """It was told to stop."""
    return Told("overcommitd stops and gives DAMON back; guests keep the size that they have")


@defined("failed", "72ebcd30b8cf4b708c9c0f7a00fc2f59", Priority.ERROR, Field.EXIT_STATUS)
def failed(line: str, exit_status: int) -> Told:
    """It does not start, or cannot go on; a line for each error, and one for the hint."""
    return Told(line, {Field.EXIT_STATUS: exit_status})


@defined("waiting", "5024608b02a94664b83142c4eec44890", Priority.NOTICE)
def waiting(holder: str) -> Told:
    """It waits for a verb to end before it starts."""
    return Told(f"waiting for another controller to end: {holder}")


@defined("cleaned-up", "8e8e6a625c5846b3bf86e3ddff837b55", Priority.NOTICE)
def cleaned_up(what: str) -> Told:
    """A controller died before, and what it left of DAMON was put back."""
    return Told(f"cleaned up after a controller died: {what}")


@defined("state", "325716ef6f6a4aa8b944af9f98cc58c3", Priority.INFO, Field.MODE)
def state(sentence: str, mode: str) -> Told:
    """The daemon's state, when its sentence has changed."""
    return Told(sentence, {Field.MODE: mode})


# What it needs


@defined("lost", "2cc6aeaa129f470393a44b45f8e3ff17", Priority.WARNING, Field.LOST, once=True)
def lost(what: str, why: str) -> Told:
    """Something that decisions need is lost; nothing is taken without it."""
    return Told(f"lost {what}: {why}; nothing is taken", {Field.LOST: what})


@defined(
    "regained", "f18b8ba9ad0846899c0f53a0a730b45d", Priority.NOTICE, Field.LOST, Field.SECONDS, once=True
)
def regained(what: str, seconds: float) -> Told:
    """What was lost is available again."""
    told = f"{what} can be used again, after {format_duration(seconds)}"
    return Told(told, {Field.LOST: what, Field.SECONDS: round(seconds)})


@defined("giving-back", "e03b05e7986a43eb8302f8a46398c9ab", Priority.WARNING, Field.LOST, once=True)
def giving_back(what: Iterable[str]) -> Told:
    """A loss lasts; memory is given back."""
    names = ", ".join(what)
    return Told(f"guests get back what they gave: {names} cannot be used for long", {Field.LOST: names})


# The host


@defined("emergency", "18e04f43821c4f4684b90a12474d75c1", Priority.CRITICAL, Field.BYTES, once=True)
def emergency(available_bytes: int) -> Told:
    """The host runs out of memory."""
    told = f"EMERGENCY: less than half of the reserve is left ({format_size(available_bytes)} available)"
    return Told(told, {Field.BYTES: available_bytes})


@defined("emergency-over", "004ff97cb81a4c3faebd34e0aef5d207", Priority.NOTICE, Field.BYTES, once=True)
def emergency_over(available_bytes: int) -> Told:
    """The emergency is over."""
    told = f"the emergency is over: {format_size(available_bytes)} available"
    return Told(told, {Field.BYTES: available_bytes})


@defined("reserve-missed", "ac417ce432f144e48d1ef2f1f5919bc3", Priority.WARNING, Field.BYTES, once=True)
def reserve_missed(missing_bytes: int) -> Told:
    """The host has less than the policy keeps free."""
    told = f"the host is below its reserve: {format_size(missing_bytes)} are missing"
    return Told(told, {Field.BYTES: missing_bytes})


@defined("reserve-kept", "011b2a4502de414d92436f9decd1b1eb", Priority.NOTICE, once=True)
def reserve_kept() -> Told:
    """The host has its reserve again."""
    return Told("the host has its reserve again")


@defined("page-out-stopped", "c15d331fb3fe4ce191cc67c14bbbfd69", Priority.WARNING, once=True)
def page_out_stopped(why: str) -> Told:
    """Nothing is paged out from any domain."""
    return Told(why)


@defined("page-out-possible", "af99155cce784c708c73ac54999a2997", Priority.NOTICE, once=True)
def page_out_possible() -> Told:
    """Nothing stops page-out any more."""
    return Told("memory can be paged out again")


# The policy


@defined("policy-in-force", "62fd000838694b84942282c8f901ba38", Priority.NOTICE, Field.POLICY)
def policy_in_force(source: str) -> Told:
    """Another policy is in force."""
    return Told(f"policy {source} is in force now", {Field.POLICY: source})


@defined("policy-refused", "6055f41902d341939ed45d26b8e5cb6d", Priority.WARNING)
def policy_refused(why: str) -> Told:
    """The file was changed and is not valid."""
    return Told(f"the policy stays as it is, for what is there now is none: {why}")


# Orders


@defined("paused", "740872f7132547de80d537bdc8231bd3", Priority.NOTICE, Field.UID, Field.SECONDS)
def paused(how: str, uid: int, seconds: float | None, *, still: bool = False) -> Told:
    """Nothing is taken for ``seconds``; ``still``: the order was given before a restart."""
    told = (
        f"still {how}, ordered by uid {uid} before the restart" if still else f"{how} by order of uid {uid}"
    )
    return Told(told, {Field.UID: uid, Field.SECONDS: None if seconds is None else round(seconds)})


@defined("resumed", "271bf65241ba4898aa4ce2461318599a", Priority.NOTICE, Field.UID)
def resumed(uid: int) -> Told:
    """The pause is over by order."""
    return Told(f"resumed by order of uid {uid}", {Field.UID: uid})


@defined("quarantine-released", "e3bd4d9c02cf40f38939cc6eb778525b", Priority.NOTICE, Field.UID, *_DOMAIN)
def quarantine_released(who: str, uid: int, ended: Iterable[Quarantine]) -> Told:
    """An order ended quarantines. ``who`` is the word in the order."""
    of_it = next((_of(quarantine.domain) for quarantine in ended), {Field.DOMAIN: who})
    return Told(f"release {who} by order of uid {uid}", {**of_it, Field.UID: uid})


@defined(
    "reservation-cancelled",
    "52205559e3734800992bc1ec023987b2",
    Priority.NOTICE,
    Field.UID,
    Field.RESERVATION,
)
def reservation_cancelled(number: int, uid: int) -> Told:
    """An order ended a reservation."""
    return Told(f"cancel {number} by order of uid {uid}", {Field.UID: uid, Field.RESERVATION: number})


@defined(
    "reservation-granted",
    "297e5c11eaa743b3bccc52f24b08ac12",
    Priority.INFO,
    Field.DOMAIN,
    Field.RESERVATION,
    Field.BYTES,
)
def reservation_granted(number: int, size_bytes: int, purpose: str | None) -> Told:
    """Memory is reserved. ``purpose`` is the domain that it is for, or a word of the requester."""
    told = f"reservation {number}: {format_size(size_bytes)} are promised{_for(purpose)}"
    return Told(told, {Field.DOMAIN: purpose, Field.RESERVATION: number, Field.BYTES: size_bytes})


@defined(
    "reservation-refused",
    "88dea5ec2c0447eeab18e2f16fb17f73",
    Priority.WARNING,
    Field.DOMAIN,
    Field.BYTES,
    once=True,
)
def reservation_refused(size_bytes: int, purpose: str | None, why: str) -> Told:
    """A request for memory cannot be met."""
    told = f"a reservation of {format_size(size_bytes)}{_for(purpose)} is refused: {why}"
    return Told(told, {Field.DOMAIN: purpose, Field.BYTES: size_bytes})


def _for(purpose: str | None) -> str:
    return f" for {purpose}" if purpose else ""


# Actions

_ACTION = (*_DOMAIN, Field.MECHANISM)
_ENDED = (*_ACTION, Field.OUTCOME, Field.BYTES, Field.SECONDS)


@defined(
    "action-started", "c7dd2f5066a240d78f3350d808864fc6", Priority.INFO, *_ACTION, Field.BYTES, once=True
)
def action_started(action: Action) -> Told:
    """An action starts to take or give memory. The bytes are the least that the host gains."""
    fields = {**_of_action(action), Field.BYTES: action.expected_bytes}
    return Told(f"{subject_of(action)}: {name_of(action)}: {action.because}", fields)


@defined("action-done", "e372369c0556415aa4611fe5b3a71c66", Priority.INFO, *_ENDED)
def action_done(outcome: Outcome) -> Told:
    """An action did all of it or a part. The bytes are what the host gained, read from the host."""
    return _ended(outcome)


@defined("action-failed", "1a547d14841a4c51bbb80df44d179956", Priority.WARNING, *_ENDED, once=True)
def action_failed(outcome: Outcome) -> Told:
    """It failed, or was undone."""
    return _ended(outcome)


def action_ended(outcome: Outcome) -> Definition[[Outcome]]:
    """The definition for that end of an action."""
    return action_done if outcome.status in {Status.DONE, Status.PARTIAL} else action_failed


def _ended(outcome: Outcome) -> Told:
    action, how = outcome.action, outcome.status.value
    fields = {
        **_of_action(action),
        Field.OUTCOME: how,
        Field.BYTES: outcome.freed_bytes,
        Field.SECONDS: round(outcome.seconds),
    }
    freed = format_size(outcome.freed_bytes)
    return Told(f"{subject_of(action)}: {name_of(action)}: {how}: {outcome.detail}, {freed} freed", fields)


@defined(
    "action-interrupted",
    "4e3556d9bae743b892a97fb430990a1c",
    Priority.WARNING,
    *_ACTION,
    Field.OUTCOME,
    once=True,
)
def action_interrupted(action: Action, why: str) -> Told:
    """An action ended in the middle. What it had done stays until `restore`."""
    return Told(
        f"{subject_of(action)}: {name_of(action)}: {why}", {**_of_action(action), Field.OUTCOME: LEFT}
    )


@defined("action-held", "650330a655924ccaab2c15119e943faa", Priority.NOTICE, *_ACTION, once=True)
def action_held(action: Action, why: str) -> Told:
    """A safety rule prevents an action from starting."""
    return Told(f"{name_of(action)} does not start: {why}", _of_action(action))


# Domains


@defined(
    "domain-fault", "adbbe939bcce483c89ae8095f9d3f0c9", Priority.WARNING, *_DOMAIN, Field.SECONDS, once=True
)
def domain_fault(incarnation: Incarnation, why: str, seconds: float) -> Told:
    """An unexpected error with a domain. Nothing is taken from it for ``seconds``."""
    told = f"{incarnation.name}: {why}; nothing is taken from it for {format_duration(seconds)}"
    return Told(told, {**_of(incarnation), Field.SECONDS: round(seconds)})


@defined("domain-rests", "947d99a7b765466e8a0e3c4cc192be49", Priority.NOTICE, *_DOMAIN, once=True)
def domain_rests(incarnation: Incarnation, why: str) -> Told:
    """The domain exceeds the SLO of its class."""
    return Told(f"{incarnation.name}: {why}", _of(incarnation))


@defined("domain-rests-no-more", "67698153aba94353aacc395f84cff5e5", Priority.INFO, *_DOMAIN, once=True)
def domain_rests_no_more(incarnation: Incarnation) -> Told:
    """Memory may be taken from it again."""
    return Told(f"{incarnation.name}: memory may be taken from it again", _of(incarnation))


@defined("domain-arrived", "b8fef36315344d3286d0510b7b5a6aa6", Priority.NOTICE, *_DOMAIN, Field.BYTES)
def domain_arrived(incarnation: Incarnation, gave_bytes: int, part: str) -> Told:
    """It migrated here, and another host had taken memory from it."""
    told = f"{incarnation.name} arrived after another host took {format_size(gave_bytes)} of its {part}"
    return Told(told, {**_of(incarnation), Field.BYTES: gave_bytes})


@defined("domain-leaves", "f51749f8457846edba9bb0d19e52bbd8", Priority.NOTICE, *_DOMAIN)
def domain_leaves(incarnation: Incarnation, sentence: str) -> Told:
    """It migrates to another host."""
    return Told(sentence, _of(incarnation))


_QUARANTINE = (*_DOMAIN, Field.MECHANISM)


@defined("quarantine-began", "035aae73183d446ebf3b7fa63f576844", Priority.WARNING, *_QUARANTINE, once=True)
def quarantine_began(quarantine: Quarantine) -> Told:
    """A mechanism failed or did harm, and is not used on a domain for a while."""
    what = f"{quarantine.domain.name}: {quarantine.actuator.value} is in quarantine: {quarantine.reason}"
    return Told(what, _of_quarantine(quarantine))


@defined("quarantine-over", "cf882dd514f948538f74f4daf1abfaef", Priority.INFO, *_QUARANTINE, once=True)
def quarantine_over(quarantine: Quarantine) -> Told:
    """The mechanism may be used again."""
    what = f"{quarantine.domain.name}: {quarantine.actuator.value} is in quarantine no more"
    return Told(what, _of_quarantine(quarantine))


def _of_quarantine(quarantine: Quarantine) -> Fields:
    return {**_of(quarantine.domain), Field.MECHANISM: quarantine.actuator.value}


# What does not work as it should


@defined("history-fault", "352ca627395d4dd5b7f3e9701bc0ad5c", Priority.WARNING, once=True)
def history_fault(why: str) -> Told:
    """An event that cannot be stored in the history, or read from it."""
    return Told(why)


@defined("record-fault", "5880146427664aa1b3f2bf6668da3766", Priority.WARNING, once=True)
def record_fault(why: str) -> Told:
    """The undo journal did not take the end of an action."""
    return Told(f"{why}: history will show it again, as interrupted")


@defined("pressure-fault", "205bd839ab5c49f09ca52ec5305fa482", Priority.WARNING, once=True)
def pressure_fault(why: str) -> Told:
    """The kernel does not report memory pressure; ticks still see it."""
    return Told(why)


@defined("socket-fault", "d5e64327edac486198c2a331d8c83c69", Priority.WARNING, once=True)
def socket_fault(why: str) -> Told:
    """One client, or all of them, had to be disconnected."""
    return Told(why)


@defined("socket-silent", "b4e02c500855499aae3232d14beca6ae", Priority.ERROR, once=True)
def socket_silent(why: str) -> Told:
    """Clients are not served."""
    return Told(f"the control socket does not answer: {why}")


@defined("log-lost", "2bd87e8eaad0414aa102e857d97c3e2e", Priority.WARNING)
def log_lost(events: int) -> Told:
    """The journal did not accept events."""
    return Told(f"{events} events before this one are lost: the journal did not take them")


DEFINITIONS: tuple[Definition[...], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Definition)
)
KINDS: tuple[Kind, ...] = tuple(definition.kind for definition in DEFINITIONS)
