"""From an error of Azure's to a refusal: the innermost error that the catalogue knows decides."""

from __future__ import annotations

from kairay.nodes.aks_catalogue import CATALOGUE, OTHERWISE
from kairay.nodes.aks_complaint import Complaint
from kairay.nodes.aks_facts import facts_of, first_sentence
from kairay.nodes.interface import Offer, Refusal


def refusal_of(complaint: Complaint, offer: Offer | None = None) -> Refusal:
    """What an error means for the offer that it was about: the first row that fits, from the innermost error out."""
    found, row = next(
        ((each, row) for each in complaint.inside_out() for row in CATALOGUE if row.fits(each)),
        (complaint, OTHERWISE),
    )
    facts = {
        **facts_of(found.text),
        "size": offer.instance_type if offer else "that size",
        "said": first_sentence(found.text) or found.code,
        "code": found.code,
    }
    spot = offer is not None and offer.spot
    return row.refusal(found.code or complaint.code, facts, spot=spot, retry_after=complaint.retry_after)
