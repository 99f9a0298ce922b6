r"""Which share of a map's positive relevance lies in the object's box: :math:`\sum_{p \in B} R_p^+ / \sum_p R_p^+`."""


def score(case, method, maps):
    """Rows ``toy_inside``; a map without positive relevance is a miss, 0."""
    positive = case.of(maps).double().clamp(min=0)
    inside = (positive * case.boxes).sum((1, 2))
    return case.tidy(method, "toy_inside", inside / positive.sum((1, 2)).clamp(min=1e-300))
