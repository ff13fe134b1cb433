"""InfoNCE and its kin: against loops over pairs, gradients in float64, and the traps of the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from tessella.errors import InvalidArgument  # noqa: E402
from tessella.train.losses import InfoNCE, Matryoshka, SimCSE, Temperature  # noqa: E402

N, K, D = 7, 2, 12
Tensor = Any


@pytest.fixture
def columns() -> dict[str, Tensor]:
    torch.manual_seed(0)
    query = torch.randn(N, D, dtype=torch.float64)
    return {
        "query": query,
        "positive": query + torch.randn(N, D, dtype=torch.float64),
        "negative": query[:, None] + 2 * torch.randn(N, K, D, dtype=torch.float64),
    }


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def by_loops(
    columns: dict[str, Tensor], temperature: float, blocks: tuple[str, ...] = ("qd",), **rules: Any
) -> list[float]:
    """The loss of each row, written pair by pair."""
    query, positive, negative = columns["query"], columns["positive"], columns.get("negative")
    alpha, margin, focal = rules.get("hardness", 0.0), rules.get("margin"), rules.get("focal", 0.0)
    squared, ids = rules.get("squared"), rules.get("ids", list(range(len(query))))
    losses = []
    for i in range(len(query)):
        own = cosine(query[i], positive[i])
        candidates = []
        for block in blocks:
            row = query[i] if block[0] == "q" else positive[i]
            others = query if block[1] == "q" else positive
            candidates += [cosine(row, others[j]) for j in range(len(query)) if j != i and ids[j] != ids[i]]
        if negative is not None:
            candidates += [cosine(query[i], each) for each in negative.flatten(0, 1)]
        kept = [s for s in candidates if margin is None or not s > own + margin]
        top = own**2 if squared is not None else own
        logits = [(s * (s + squared) if squared is not None else s) / temperature + alpha * s for s in kept]
        total = math.exp(top / temperature) + sum(math.exp(z) for z in logits)
        probability = math.exp(top / temperature) / total
        losses.append((1 - probability) ** focal * -math.log(probability))
    return losses


RULES: list[dict[str, Any]] = [
    {},
    {"blocks": ("qd", "qq")},
    {"blocks": ("qd", "qq", "dd", "dq")},
    {"hardness": 9.0},
    {"margin": 0.05},
    {"focal": 0.5},
    {"squared": 0.3},
    {"blocks": ("qd", "dd"), "hardness": 2.0, "margin": 0.0, "focal": 1.5},
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("mined", [True, False])
def test_equals_loops_over_pairs(columns: dict[str, Tensor], rules: dict[str, Any], mined: bool) -> None:
    if not mined:
        del columns["negative"]
    found = float(InfoNCE(temperature=0.1, **rules)(**columns))
    expected = by_loops(columns, 0.1, **rules)
    assert found == pytest.approx(sum(expected) / N, rel=1e-12)


# hardness and focal are left out: their gradient is on purpose not that of the value, see test_what_is_stopped
SMOOTH = [rules for rules in RULES if not rules.keys() & {"hardness", "focal"}]


@pytest.mark.parametrize("rules", [*SMOOTH, {"symmetric": True}, {"dims": (4, 12)}, {"normalized": False}], ids=str)
def test_gradient(columns: dict[str, Tensor], rules: dict[str, Any]) -> None:
    """Numerical gradients, of the temperature, too."""
    loss = InfoNCE(temperature=Temperature(0.5).double(), **rules)
    leaves = [columns[name].requires_grad_() for name in ("query", "positive", "negative")]
    scale = loss.temperature.log_scale

    def value(*given: Tensor) -> Tensor:
        return loss(*given[:3])

    assert torch.autograd.gradcheck(value, (*leaves, scale), fast_mode=True)


def test_what_is_stopped(columns: dict[str, Tensor]) -> None:
    """Hardness and focal weights are constants to the gradient: the loss with both frozen has the same."""
    rules: dict[str, Any] = {"hardness": 3.0, "focal": 0.5}
    query = columns["query"].clone().requires_grad_()
    others = torch.cat([columns["positive"], columns["negative"].flatten(0, 1)])
    unit = torch.nn.functional.normalize

    def logits(x: Tensor) -> Tensor:
        return unit(x, dim=1) @ unit(others, dim=1).T

    frozen = logits(columns["query"])
    bonus = 3.0 * frozen * (1 - torch.eye(N, N * (1 + K), dtype=torch.float64))
    with torch.no_grad():
        weight = (1 - (frozen / 0.1 + bonus).softmax(1).diagonal()) ** 0.5
    expected = -((logits(query) / 0.1 + bonus).log_softmax(1).diagonal() * weight).mean()
    (theirs,) = torch.autograd.grad(expected, query)
    found = InfoNCE(temperature=0.1, **rules)(query, columns["positive"], columns["negative"])
    (ours,) = torch.autograd.grad(found, query)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rules", [{"focal": 0.0}, {"hardness": 0.0}, {"margin": 10.0}], ids=str)
def test_neutral_rules_are_infonce_bit_for_bit(columns: dict[str, Tensor], rules: dict[str, Any]) -> None:
    assert torch.equal(InfoNCE(**rules)(**columns), InfoNCE()(**columns))


def test_directions(columns: dict[str, Tensor]) -> None:
    """Symmetric is the mean of both; mined negatives belong to queries alone."""
    one, other = by_loops(columns, 0.1), by_loops({"query": columns["positive"], "positive": columns["query"]}, 0.1)
    found = float(InfoNCE(temperature=0.1, symmetric=True)(**columns))
    assert found == pytest.approx((sum(one) + sum(other)) / (2 * N), rel=1e-12)


def test_own_negatives_alone(columns: dict[str, Tensor]) -> None:
    """NV-Embed's second stage: no in-batch negatives, no negatives of others."""
    found = float(InfoNCE(temperature=0.1, blocks=(), own_negatives=True)(**columns))
    rows = [by_loops({name: each[i : i + 1] for name, each in columns.items()}, 0.1, blocks=())[0] for i in range(N)]
    assert found == pytest.approx(sum(rows) / N, rel=1e-12)


def test_equal_ids_are_never_negatives(columns: dict[str, Tensor]) -> None:
    """In-batch duplicates: of a document, of a query, and of a document among the mined."""
    ids = torch.tensor([0, 1, 2, 3, 4, 1, 1])
    del columns["negative"]
    expected = sum(by_loops(columns, 0.1, ("qd", "qq", "dd"), ids=ids.tolist())) / N
    for name in ("query_id", "positive_id"):
        found = InfoNCE(temperature=0.1, blocks=("qd", "qq", "dd"))(**columns, **{name: ids})
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_mined_negative_that_is_the_document_is_dropped(columns: dict[str, Tensor]) -> None:
    columns["negative"].requires_grad_()
    negative_id = torch.arange(100, 100 + N * K).view(N, K)
    negative_id[2, 1] = 2
    loss = InfoNCE(blocks=(), own_negatives=True)
    value = loss(**columns, positive_id=torch.arange(N), negative_id=negative_id)
    (gradient,) = torch.autograd.grad(value, columns["negative"])
    zero = (gradient == 0).all(dim=2)
    assert zero[2, 1] and zero.sum() == 1


def test_masked_pairs_have_no_gradient(columns: dict[str, Tensor]) -> None:
    """RzenEmbed's planted false negative: a document that is nearer than the positive."""
    columns["positive"][3] = columns["query"][0]
    leaf = columns["positive"].requires_grad_()
    scores = InfoNCE(margin=0.0)(columns["query"][:1].repeat(N, 1), leaf, weight=torch.eye(N).double()[0])
    (gradient,) = torch.autograd.grad(scores, leaf)
    assert (gradient[3] == 0).all()
    assert (gradient[0] != 0).any()


def guided(columns: dict[str, Tensor], guide: dict[str, Tensor], **rules: Any) -> Tensor:
    return InfoNCE(temperature=0.1, **rules)(**columns, **{f"guide_{name}": each for name, each in guide.items()})


def test_guide_drops_what_it_holds_closer(columns: dict[str, Tensor]) -> None:
    """GIST: in every block, candidates over the guide's score of the positive (strictly)."""
    torch.manual_seed(1)
    guide = {name: torch.randn(*each.shape[:-1], 5, dtype=torch.float64) for name, each in columns.items()}
    losses = []
    for i in range(N):
        own, kept = cosine(guide["query"][i], guide["positive"][i]), []
        for row, others in (("query", "positive"), ("query", "query"), ("positive", "positive"), ("query", "negative")):
            theirs, ours = guide[others].flatten(0, -2), columns[others].flatten(0, -2)
            for j in range(len(ours)):
                if (others == "negative" or j != i) and not cosine(guide[row][i], theirs[j]) > own:
                    kept.append(cosine(columns[row][i], ours[j]))
        top = cosine(columns["query"][i], columns["positive"][i])
        losses.append(math.log(sum(math.exp((s - top) / 0.1) for s in [top, *kept])))
    found = guided(columns, guide, blocks=("qd", "qq", "dd"))
    assert found.item() == pytest.approx(sum(losses) / N, rel=1e-12)


def test_guide_of_an_exact_duplicate_still_leaves_the_diagonal_out(columns: dict[str, Tensor]) -> None:
    """Where query and document are one text the guide's threshold is 1, and no self-pair is over it."""
    del columns["negative"]
    guide = {"query": torch.eye(N).double(), "positive": torch.eye(N).double()}
    found = guided(columns, guide, blocks=("qd", "qq", "dd"))
    assert found.item() == pytest.approx(sum(by_loops(columns, 0.1, ("qd", "qq", "dd"))) / N, rel=1e-12)


def test_relative_guide_margin_tightens_where_scores_are_negative() -> None:
    """g_ii = -0.5 and a margin of 10 %: what scores over -0.55 goes, where g_ii * 0.9 would let -0.5 stay."""
    query, positive = torch.eye(2, 3).double(), torch.eye(2, 3).double()
    angle = [math.acos(-0.5), math.acos(-0.52)]
    guide_query = torch.tensor([[1.0, 0.0]] * 2).double()
    guide_positive = torch.tensor([[math.cos(a), math.sin(a)] for a in angle]).double()
    loss = InfoNCE(guide_margin=0.1, guide_relative=True)
    found = loss(query, positive, guide_query=guide_query, guide_positive=guide_positive)
    assert found.item() == 0.0  # both documents are over each other's threshold: nothing is left but the positives


def test_matryoshka_by_prefix_sums_is_the_sum_of_cut_and_normalised(columns: dict[str, Tensor]) -> None:
    dims, weights, rules = (12, 8, 3), (1.0, 0.5, 0.25), {"hardness": 2.0, "margin": 0.2, "blocks": ("qd", "qq")}
    loss = InfoNCE(temperature=0.1, **rules)
    found = Matryoshka(loss, dims, weights)(**columns)
    cut = [loss(**{name: each[..., :m] for name, each in columns.items()}) for m in dims]
    expected = sum(weight * each for weight, each in zip(weights, cut, strict=True))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_learnable_temperature_is_held_and_still_learns(columns: dict[str, Tensor]) -> None:
    """At a scale of 100 the gradient goes on, as it would not behind a clamp."""
    temperature = Temperature(0.01)
    with torch.no_grad():
        temperature.log_scale.add_(1.0)
    value = InfoNCE(temperature)(**columns)
    value.backward()
    assert temperature().item() == pytest.approx(100.0)
    assert temperature.log_scale.grad.item() != 0.0


def test_a_temperature_for_each_task(columns: dict[str, Tensor]) -> None:
    temperature = Temperature(0.1, tasks=2).double()
    with torch.no_grad():
        temperature.log_scale[1] += math.log(2.0)
    task = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    found = InfoNCE(temperature)(**columns, task=task).item()
    slow, fast = by_loops(columns, 0.1), by_loops(columns, 0.05)
    expected = sum(fast[i] if task[i] else slow[i] for i in range(N)) / N
    assert found == pytest.approx(expected, rel=1e-6)  # the temperature was made in float32


def test_rows_weigh(columns: dict[str, Tensor]) -> None:
    weight = torch.arange(N).double()
    found = float(InfoNCE(temperature=0.1)(**columns, weight=weight))
    assert found == pytest.approx(sum(w * x for w, x in enumerate(by_loops(columns, 0.1))) / N, rel=1e-12)


def test_simcse_refuses_passes_without_dropout(columns: dict[str, Tensor]) -> None:
    query = columns["query"]
    assert float(SimCSE()(query, query + 1e-3)) == pytest.approx(float(InfoNCE()(query, query + 1e-3)))
    with pytest.raises(InvalidArgument, match="got the same embeddings twice"):
        SimCSE()(query, query)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"blocks": ("qx",)}, "expected blocks of qd, qq, dd, dq"),
        ({"focal": -1.0}, "expected focal and hardness of at least 0"),
        ({"dims": (4,), "weights": (1.0, 2.0)}, "got 2 weights for 1 dims"),
        ({"hardness_on": "some"}, "expected hardness_on to be 'all' or 'mined'"),
        ({"temperature": 0.0}, "expected a temperature above 0"),
    ],
)
def test_wrong_rules_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        InfoNCE(**rules)


def test_wrong_columns_are_refused(columns: dict[str, Tensor]) -> None:
    query, positive, negative = columns.values()
    with pytest.raises(
        InvalidArgument, match=r"expected two columns of one shape \(n, d\); got \(7, 12\) and \(6, 12\)"
    ):
        InfoNCE()(query, positive[:6])
    with pytest.raises(InvalidArgument, match=r"expected negative of shape \(7, k, 12\)"):
        InfoNCE()(query, positive, negative[:, :, :3])
    with pytest.raises(InvalidArgument, match="expected the columns positive; got query"):
        InfoNCE()(query=query)
    with pytest.raises(InvalidArgument, match="got 13 of 12"):
        InfoNCE(dims=(13,))(query, positive)
