"""Users' own networks: found, sized, counted, given roles, and refused where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.learning.objectives import make_batch
from scaling.learning.step import make_hyper, make_learner
from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_by_convention, count_params
from scaling.models.families.module import from_module, list_arrays, list_uncounted
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.models.shape import make_layers
from scaling.specs.base import InputError
from scaling.specs.execution import Execution
from scaling.specs.models import MLPSpec, ModuleSpec
from scaling.specs.task import TaskShape, token_task
from scaling.specs.training import AdamWSpec, MuonSpec, TrainingSpec
from tests.scaling.models import own_modules
from tests.scaling.models.networks import NUMBERS, TEXT


def test_the_built_in_mlp_written_as_a_module_has_equal_counts_flops_and_losses():
    ours = make_shape(MLPSpec(num_params=20_000, depth=3), NUMBERS)
    theirs = make_shape(from_module(own_modules.own_mlp, num_params=20_000, depth=3, as_built_in=True), NUMBERS)
    assert theirs.width == ours.width
    assert count_params(theirs) == count_params(ours)
    for name in ("forward", "train"):
        mine, its = (getattr(count_flops(shape), name) for shape in (ours, theirs))
        assert sum(its.values()) == sum(mine.values())
        assert its["logits"] == mine["logits"]
    for convention in ("total", "non_embedding", "matmul"):
        assert count_by_convention(theirs, convention) == count_by_convention(ours, convention)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2, weight_decay=0.1), num_steps=20)
    inputs = jax.random.normal(jax.random.key(0), (32, 64))
    batch = make_batch(NUMBERS, inputs, jnp.arange(32) % 10, jax.random.key(1))

    def losses(shape):
        learner, hyper = make_learner(shape, training), make_hyper(training, 32, 0)
        return jax.jit(
            lambda seed: jax.lax.scan(lambda state, _: learner.step(state, hyper, batch), learner.init(seed), length=20)
        )(jnp.uint32(7))[1]

    np.testing.assert_allclose(losses(theirs), losses(ours), rtol=1e-5)
    assert losses(ours)[-1] < 0.5 * losses(ours)[0]


def test_the_asked_size_is_met_or_refused_with_the_nearest():
    for request in (50_000, 77_777, 1_000_000):
        total = sum(count_params(make_shape(from_module(own_modules.gated_mlp, num_params=request), NUMBERS)).values())
        assert abs(total / request - 1) < 0.03
    assert make_shape(from_module(own_modules.of_eights, num_params=100_000), NUMBERS).width % 8 == 0
    with pytest.raises(
        InputError, match=r"nearest that .*:coarse makes .* 8970 \(width=1\) and .* ask for one of these"
    ):
        make_shape(from_module(own_modules.coarse, num_params=15_000), NUMBERS)


def test_roles_follow_from_what_grows_with_the_width():
    roles = {
        guess.path: guess for guess in list_arrays(make_shape(from_module(own_modules.state_space, width=24), TEXT))
    }
    assert {path: guess.role for path, guess in roles.items()} == {
        "embed/embedding": "input", "norm/bias": "vector", "norm/scale": "vector", "decay": "vector",
        "mix/kernel": "hidden", "mix/bias": "vector", "out/kernel": "hidden", "out/bias": "vector",
        "readout/kernel": "output", "readout/bias": "vector",
    }  # fmt: skip
    groups = {guess.group for guess in roles.values()}
    assert groups == {"embedding", "norm", "vectors", "hidden", "head"}
    gated = {
        guess.path: guess for guess in list_arrays(make_shape(from_module(own_modules.gated_mlp, width=16), NUMBERS))
    }
    assert gated["inside/kernel"].role == "input"
    assert (gated["up/kernel"].division, gated["down/kernel"].division) == ("columns", "rows")


def test_code_may_say_roles_and_groups_itself():
    guessed = {
        guess.path: guess for guess in list_arrays(make_shape(from_module(own_modules.said_mlp, width=16), NUMBERS))
    }
    assert guessed["first/bias"].group == "stem"
    assert guessed["first/kernel"].role == "input"
    assert guessed["head/kernel"].role == "output"


def test_stacked_matrices_in_a_loop_count_their_length():
    shape = make_shape(from_module(own_modules.scanned, width=32, depth=5), NUMBERS)
    forward = count_flops(shape).forward
    assert forward["stack"] == 5 * 2 * 32 * 32
    assert sum(count_flops(shape).train.values()) == 2 * (2 * 64 * 32) + 3 * (forward["stack"] + 2 * 32 * 10)
    (stack,) = [guess for guess in list_arrays(shape) if guess.path == "stack"]
    assert (stack.role, stack.group) == ("hidden", "hidden")


def test_counted_flops_are_those_of_the_compiled_program():
    shape = make_shape(from_module(own_modules.own_mlp, width=64, depth=3), NUMBERS)
    model = build(shape)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((16, 64), jnp.float32)
    compiled = (
        jax.jit(lambda v, x: model.apply(v, x, train=False, key=None)[0].logits).lower(variables, inputs).compile()
    )
    assert compiled.cost_analysis()["flops"] == pytest.approx(16 * sum(count_flops(shape).forward.values()), rel=0.05)


def test_the_readout_may_be_left_out_of_the_count():
    shape = make_shape(from_module(own_modules.own_mlp, width=16), NUMBERS)
    assert "logits" not in count_flops(shape, Convention(logits=False)).forward


def test_what_no_walk_can_count_is_said_or_refused():
    shape = make_shape(from_module(own_modules.uncounted, width=16), NUMBERS)
    assert list_uncounted(shape) == ["fft (1 times)"]
    with pytest.raises(InputError, match="loop whose length is not known before it runs"):
        make_layers(make_shape(from_module(own_modules.uncounted, width=17, way="while"), NUMBERS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("broken", r"broken fails with width=1: NameError: name 'undefined_name'"),
        ("no_module", r"makes function; return a module of flax\.nnx or of flax\.linen"),
        ("wrong_outputs", r"it gives \[2, 1\] for 2 examples of \[64\]; give \[2, 10\], \[B, K\] logits"),
    ],
)
def test_code_that_does_not_fit_is_refused_in_a_line_that_names_it(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make_shape(from_module(getattr(own_modules, make), num_params=10_000), NUMBERS)
    assert "\n" not in str(caught.value)


def test_fields_that_are_the_modules_own_are_refused():
    with pytest.raises(
        ValueError, match=r"model\.dropout=0\.1: a module has its own; pass it as model\.settings\.dropout"
    ):
        from_module(own_modules.own_mlp, width=16).model_validate(
            {"code": "x:make", "width": 16, "dropout": 0.1, "kind": "module"}
        )
    with pytest.raises(ValueError, match="completep"):
        ModuleSpec(code="x:make", width=16, parametrization="completep")
    with pytest.raises(InputError, match=r"execution\.remat='full'"):
        build(make_shape(from_module(own_modules.own_mlp, width=16), NUMBERS), Execution(remat="full"))


def test_reading_a_cell_of_unknown_code_imports_nothing():
    spec = ModuleSpec.model_validate_json(
        '{"kind":"module","code":"nobody_has_this:make","width":16,"settings":{"depth":2}}'
    )
    assert spec.settings["depth"] == 2
    assert spec.fingerprint() == ModuleSpec(code="nobody_has_this:make", width=16, settings={"depth": 2}).fingerprint()
    with pytest.raises(InputError, match="--study FILE"):
        make_shape(spec, NUMBERS)


def test_mup_scales_the_readout_and_the_rates_of_a_users_network():
    spec = from_module(own_modules.own_mlp, width=128, depth=3, parametrization="mup", base_width=32)
    from scaling.models.parametrization import update_trees

    trees = update_trees(make_shape(spec, NUMBERS), "sign")
    assert trees.lr["others"]["0"]["kernel"] == 0.25
    assert trees.lr["head"]["kernel"] == trees.lr["first"]["kernel"] == 1.0
    standard, scaled = (
        build(make_shape(spec.model_copy(update={"parametrization": name}), NUMBERS)) for name in ("standard", "mup")
    )
    key, inputs = jax.random.key(0), jnp.ones((2, 64))
    ours, theirs = scaled.init(key), standard.init(key)
    np.testing.assert_allclose(ours["params"]["head"]["kernel"], 2.0 * theirs["params"]["head"]["kernel"], rtol=1e-6)
    mup, plain = (m.apply(v, inputs, train=False, key=None)[0].logits for m, v in ((scaled, ours), (standard, theirs)))
    np.testing.assert_allclose(mup, 0.5 * plain, rtol=1e-5)


def test_muon_trains_the_hidden_matrices_of_a_users_network():
    shape = make_shape(from_module(own_modules.own_mlp, width=16, depth=2), NUMBERS)
    learner = make_learner(shape, TrainingSpec(optimizer=MuonSpec(peak_lr=0.01), num_steps=2))
    state = jax.eval_shape(learner.init, jnp.uint32(0))
    kept = jax.tree_util.tree_leaves_with_path(state.optimizer)
    muon = {path for path, _ in kept if "muon" in str(path) and "mu" in str(path)}
    assert any("others" in str(path) for path in muon)


def test_dropout_follows_the_key_and_evaluation_has_none():
    model = build(make_shape(from_module(own_modules.state_space, width=16), TEXT))
    variables, tokens = model.init(jax.random.key(0)), jnp.arange(32).reshape(2, 16) % 32

    def logits(train, key):
        return model.apply(variables, tokens, train=train, key=key)[0].logits

    first, again, other = (logits(True, jax.random.key(seed)) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert (logits(False, None) == logits(False, jax.random.key(3))).all()


def test_taps_see_products_without_changing_outputs():
    model = build(make_shape(from_module(own_modules.gated_mlp, width=16), NUMBERS))
    variables, inputs, taps = model.init(jax.random.key(0)), jnp.ones((2, 64)), {}
    key = jax.random.key(1)
    seen, state = model.apply(variables, inputs, train=True, key=key, taps=taps)
    plain, expected = model.apply(variables, inputs, train=True, key=key)
    np.testing.assert_allclose(seen.logits, plain.logits, rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    assert taps["/up/kernel"].shape == (2, 64)


def test_tokens_with_labels_are_a_task_too():
    labelled = TaskShape(num_features=16, vocab_size=32, num_classes=3)
    with pytest.raises(InputError, match=r"give \[2, 3\]"):
        make_shape(from_module(own_modules.state_space, width=16), labelled)
    masked = token_task(32, 16, "masked")
    assert make_shape(from_module(own_modules.state_space, width=16), masked).width == 16
