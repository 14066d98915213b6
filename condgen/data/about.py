"""What is known of a published data set beside its images: whose it is, and under which terms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """A published data set.

    Attributes:
        name: as its authors call it.
        url: where it comes from.
        licence: its licence, in the identifiers of the hub's model cards; "unknown" where its authors state none.
        terms: one sentence about authors and licence.
        hub: the same set on the hub, ``owner/name``; "" where it is not there.
    """

    name: str
    url: str
    licence: str
    terms: str
    hub: str = ""
