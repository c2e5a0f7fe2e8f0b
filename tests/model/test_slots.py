"""The atomic ID slot."""

import torch

from recsys.model.slots import IDSlot


def test_the_slot_is_the_id_vector_alone() -> None:
    vectors = torch.randn(3, 4, requires_grad=True)
    out = IDSlot()(vectors)
    assert torch.equal(out, vectors) and not list(IDSlot().parameters())
    out.sum().backward()
    assert vectors.grad is not None and (vectors.grad == 1).all()
