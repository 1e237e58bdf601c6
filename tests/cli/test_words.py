"""The words of a command line mean the same to a single run, to each job of a sweep, and to a search."""

import re
import shlex
from decimal import Decimal

import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from trainer.cli.composing import Loader
from trainer.cli.config import register_resolvers
from trainer.cli.explain import explain
from trainer.rundir.errors import Refused
from trainer.rundir.trust import CONF
from trainer.rundir.typed import argument
from trainer.sweep.grid import Composer, expand, parse, values
from trainer.sweep.space import space_of

MORE = "++train.more"  # a key of anybody's own

KEYS = "optim has of, lr, momentum, nesterov, weight_decay, penalty, penalty_factor, penalty_on"  # with optim=sgd


@pytest.fixture(scope="module")
def loader():
    register_resolvers([])
    setup_globals()
    return Loader(create_config_search_path(str(CONF)))


def alone(loader, argv):
    """What Hydra composes of the words for a single run, or None if it refuses them."""
    try:
        config = loader.load_configuration("config", argv, RunMode.RUN)
        HydraConfig.instance().set_config(config)
        plain = OmegaConf.to_container(config, resolve=False)
        del plain["hydra"], plain["sweep"]
        return OmegaConf.to_container(OmegaConf.create(plain), resolve=True)
    except Exception as error:
        if explain(error, argv) is None:
            raise
        return None


@pytest.fixture(scope="module")
def composer(loader):
    return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


def jobs(composer, words, params=None):
    """What `-m` composes of the words: a configuration for each job."""
    grid = expand(parse(composer.loader, params, words), params or ())
    return [composer.job(overrides, grid.differences(overrides)).config for overrides in grid.combinations]


@pytest.mark.parametrize(
    "argv",
    [
        ["objective=cross_entropy", "objective.class_weights={a: 1}", "objective.class_weights={b: 2}"],
        ["+a={b:1}", "+a={c:2}"],
        ["++a={b:1}", "++a={c:2}"],
        ["+a={b:1}", "+a.c=2", "+a={b:3}"],
        ["+a={b:1}", "a={b:2}"],
        ["+a={b:1}", "a={d:2}"],
        ["+a={b:1}", "a=null"],
        ["+a={b:1}", "++a=5", "++a={c:1}"],
        ["+a.b.c=1", "+a.b={d:2}"],
        ["model.widths=[1]", "model.widths=[2,3]"],
        ["model.widths.0=7", "model.widths=[1]"],
        ["model.widths=[1]", "model.widths.0=7"],
        ["+model.x=[1]", "+model.x=[2]"],
        ["seed=1", "seed=2"],
        ["+optim.x=1", "+optim.x=2"],
        ["++optim.x=1", "++optim.x=2"],
        ["~optim.momentum"],
        ["~optim.momentum", "+optim.momentum=0.5"],
        ["~optim.momentum=0.7"],
        ["~optim"],
        ["~optim=sgd"],
        ["optim=sgd", "optim=adam"],
        ["optim=adam", "optim.betas=[0.1,0.2]", "~optim.eps"],
        ["optim={lr: 3}", "optim.lr=1"],
        ["optim.lr=1", "optim={lr: 3}"],
        ["optim={lr: 3}", "optim={momentum: 0.1}"],
        ["data.augment.crop=1", "data.augment={crop: 2}", "data.augment.crop=3", "data.augment={flip: true}"],
        ["constraint=l2", "optim=cgd"],
        ["experiment=digits_cnn_cgd", "model=mlp", "model.widths=[3]"],
        ["experiment=fashion_sfw", "experiment/tuned=l2", "optim.lr=3"],
        ["logger=tensorboard", "logger=[pictures]"],
        ["optim.lr=${seed}", "model.widths=[${seed},3]"],
        ["data.root='${oc.env:HOME}/x'"],
        [f"{MORE}={{1: x, true: [y, {{}}], null: 'z, 2'}}"],
        ["seed@foo=3"],
        ["model.nope=1"],
        ["optim.betas=[1,2]"],
    ],
)
def test_a_job_is_composed_as_a_single_run(loader, composer, argv):
    expected = alone(loader, argv)
    if expected is None:
        with pytest.raises(Refused):
            jobs(composer, argv)
    else:
        assert jobs(composer, argv) == [expected]


@pytest.mark.parametrize(
    "value",
    [
        *("'a b'", '"it\'s"', "'null'", "'007'", "007", "'1e3'", "'true'", "true", "''", "' a '", "'a,b'", "a\\,b"),
        *("'a=b'", "'Größe'", '"a\\"b"', "'x\\\\'", "'\\${x}'", "'{a:1}'", "1e-3", "1e-05", "-0.5", "1_000"),
        *("{a: 1}", "{a: {b: [1,'x y', null]}}", "[1,2]", "[]", "${seed}", "[${seed},3]", "a/b.c", "a:b"),
    ],
)
def test_a_swept_value_is_what_it_is_in_a_single_run(loader, value):
    parser = OverridesParser.create()
    for text in (f"{MORE}={value},7", f"{MORE}=choice({value},7)"):
        [override] = parse(loader, None, [text])
        found = parser.parse_overrides([f"{MORE}={v}" for v in values(override)])
        assert [o.value() for o in found] == [parser.parse_override(f"{MORE}={v}").value() for v in (value, 7)]
        assert type(found[0].value()) is type(parser.parse_override(f"{MORE}={value}").value())


def test_mappings_merge_with_those_that_are_swept(composer):
    found = jobs(composer, [f"{MORE}={{a:1}},{{a:2}}", f"{MORE}={{b:3}},{{b:4}}", f"{MORE}={{c:5}}"])
    assert [job["train"]["more"] for job in found] == [{"a": a, "b": b, "c": 5} for a in (1, 2) for b in (3, 4)]


def test_a_later_value_makes_a_sweep_void(composer):
    assert [job["seed"] for job in jobs(composer, ["seed=1,2", "seed=3,4,5"])] == [3, 4, 5]
    assert [job["seed"] for job in jobs(composer, ["seed=1,2", "seed=7"])] == [7]


@pytest.mark.parametrize("value", [None, True, 3, 1e-3, [None, "a b", "1"], {"a": None, "b": ["x, y", "null"]}])
def test_an_experiments_plain_values_stay_what_they_are(composer, value):
    assert [job["train"]["more"] for job in jobs(composer, [], {MORE: value})] == [value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("range(0.1,0.4,step=0.1)", ["0.1", "0.2", "0.3"]),
        ("range(0,1,0.1)", [str(Decimal(i) / 10) if i else "0.0" for i in range(10)]),
        ("range(1e-3,4e-3,1e-3)", ["0.001", "0.002", "0.003"]),
        ("range(1,0,step=-0.25)", ["1.0", "0.75", "0.5", "0.25"]),
        ("range(-0.3,0.3,0.1)", ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2"]),
        ("sort(range(0.5,0.2,-0.1))", ["0.3", "0.4", "0.5"]),
        ("range(0.7,0.7,0.1)", []),
        ("range(3)", ["0", "1", "2"]),
        ("range(10,1,-4)", ["10", "6", "2"]),
        ("float(range(1,3))", ["1.0", "2.0"]),
    ],
)
def test_a_range_counts_in_decimals(loader, text, expected):
    [override] = parse(loader, None, [f"optim.lr={text}"])
    assert values(override) == expected
    [override] = parse(loader, {"optim.lr": text}, [])
    assert values(override) == expected
    if expected:
        [[dimension], _] = space_of([override])
        ends = sorted((float(expected[0]), float(expected[-1])))
        assert [dimension.low, dimension.high] == ends


def test_a_range_of_a_search_ends_where_a_grid_ends(loader):
    pytest.importorskip("optuna", reason="searches are Optuna's, an optional package")
    for text, ends in (("range(0.1,0.4,step=0.1)", (0.1, 0.3)), ("range(10,1,-4)", (2, 10)), ("range(3)", (0, 2))):
        [[dimension], _] = space_of(parse(loader, None, [f"optim.lr={text}"]))
        kept = dimension.distribution()
        assert (kept.low, kept.high) == ends


@pytest.mark.parametrize("text", ["range(0,1,0)", "range(0,inf)", "range(0.5,nan)"])
def test_a_range_without_an_end(loader, text):
    with pytest.raises(Refused, match="needs a start, another end, and a step other than 0"):
        expand(parse(loader, None, [f"optim.lr={text}"]))


@pytest.mark.parametrize(
    ("argv", "key", "expected"),
    [
        (["optim=adam,adamw", "optim.betas=[0.9,0.95]"], "optim.betas", [[0.9, 0.95]] * 2),
        (["optim=sgd", "constraint=l1,l2", "constraint.radius=3"], "constraint.radius", [3, 3]),
        (["optim=cgd,sfw", "constraint.radius=3"], "constraint.radius", [3, 3]),  # a set that these bring
        (["model=cnn,cnn_small", "model.layers.0.kernel=5"], "model.layers.0.kernel", [5, 5]),
        (["optim=adam,adamw", "optim.eps=0.3"], "optim.eps", [0.3, 0.3]),
    ],
)
def test_a_key_that_only_swept_choices_have(loader, argv, key, expected):
    """Hydra's first configuration of a sweep has the default choices, which may lack the key."""
    composer = Composer(loader, loader.load_configuration("config", argv, RunMode.MULTIRUN))
    assert OmegaConf.to_container(composer.master.hydra.overrides.task) == argv
    found = jobs(composer, argv)
    assert [OmegaConf.select(OmegaConf.create(job), key) for job in found] == expected
    swept = dict(word.split("=") for word in argv if "," in word and "[" not in word)
    assert jobs(composer, [word for word in argv if word.split("=")[0] not in swept], swept) == found  # an experiment


def test_a_key_that_one_of_the_choices_lacks(cli, tmp_path):
    code, text = cli("-m", "optim=sgd,cgd", "seed=1,2", "optim.free_lr=0.1", "hydra.sweep.dir=s")
    assert (code, text.count("\n")) == (2, 2)
    assert f"0.1: unknown key; {KEYS} (2 with optim=sgd)" in text
    code, text = cli("-m", "optim=sgd,cgd", "optim.lrr=0.1", "hydra.sweep.dir=s")
    assert code == 2
    assert "optim.lrr=0.1: unknown key; did you mean optim.lr?" in text
    assert not (tmp_path / "s").exists()


def test_a_search_names_the_choice_that_lacks_a_key(cli):
    pytest.importorskip("optuna")
    search = ("-m", "hydra/sweeper=optuna", "optim=adam,sgd", "hydra.sweep.dir=s")
    code, text = cli(*search, "optim.betas=[0.9,0.95]", "seed=range(0,3)")
    assert (code, text.count("\n")) == (2, 1)
    assert f"optim.betas=[0.9,0.95]: unknown key; {KEYS} (optim=sgd)" in text


def test_search_words_that_parse(loader):
    """Hydra's own parser reads what a choice of a search is written as."""
    [override] = parse(loader, None, ["data.root='a b','null',x"])
    [[dimension], _] = space_of([override])
    lines = [dimension.override(choice) for choice in dimension.choices]
    assert [o.value() for o in OverridesParser.create().parse_overrides(lines)] == ["a b", "null", "x"]


ODD = [
    *(
        "odd names/Größe.csv",
        "sweep/0_optim.lr=0.02,seed=1",
        "photos (1)",
        "~/runs",
        "it's",
        'say "so"',
        "both'\"",
        "a,b",
    ),
    *(
        "back\\slash",
        "end\\",
        'end\\"',
        "[x]",
        "{x}",
        "a:b",
        "$HOME",
        "${seed}",
        "`ls`",
        "a;b&c|d",
        "*?!#%",
        " a ",
        "=",
        "",
    ),
    *("007", "12", "1_2", "1e5", "-3", ".5", "1.", "+1", "inf", "NaN", "null", "True", "plain/x-1_a.b+c", "-x", "a\tb"),
]


@pytest.mark.parametrize("text", ODD)
def test_the_words_that_are_suggested_mean_the_text(text):
    """Through a POSIX shell's rules and Hydra's grammar, to what OmegaConf makes of it."""
    [word] = shlex.split(argument("data.root", text))
    value = OverridesParser.create().parse_override(word).value()
    assert OmegaConf.create({"root": value, "seed": 3}).root == text
    assert isinstance(value, str)


@pytest.mark.parametrize("text", [text for text in ODD if set(text) & set("ß=(~'\",;&`!#")])
def test_a_line_about_words_that_do_not_parse_says_how_to_write_them(loader, text):
    """What it says last is pasted into a shell."""
    with pytest.raises(HydraException) as refused:
        loader.load_configuration("config", [f"data.root={text}"], RunMode.RUN)
    line = explain(refused.value, []).removesuffix(" for a text")
    [word] = shlex.split(re.search(r".* (?:write|for a list,) (.*)", line)[1])
    value = OverridesParser.create().parse_override(word).value()
    assert OmegaConf.create({"root": value}).root == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("[€,$]", ["€", "$"]),
        ("€,$", ["€", "$"]),
        ("[Größe (m²), x]", ["Größe (m²)", "x"]),
        ("[‰, a,-999]", ["‰", "a", -999]),
    ],
)
def test_a_list_that_does_not_parse_is_written_as_one(loader, typed, meant):
    with pytest.raises(HydraException) as refused:
        loader.load_configuration("config", [f"data.units={typed}"], RunMode.RUN)
    [word] = shlex.split(re.search(r"; write (.*) for a list, ", explain(refused.value, []))[1])
    assert OverridesParser.create().parse_override(word).value() == meant
