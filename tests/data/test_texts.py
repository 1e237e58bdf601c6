"""Texts as tokens: generated ones, and pairs of sentences from a file, from the data to what a run says."""

import collections
import re

import numpy as np
import pytest
from conftest import summary

from data.sentence_pairs import SentencePairs
from data.sequences import Addition, Sequences
from data.text import as_rows, words_of

SHARED = {
    **{"root": "", "batch_size": 8, "test_fraction": 0.25, "val_fraction": 0.2, "val_size": None, "limit": None},
    **{"val_from": "random", "split_seed": 0, "normalize": "global", "augment": {}},
}
PAIRS = {"columns": [1, 2], "length": 6, "vocabulary": 50, "tokens": "words", "lower": True}
TINY = ["model=transformer", "model.width=8", "model.heads=2", "model.hidden=8", "train.epochs=1"]


def texts(dataset):
    """Question and answer of every sample, as texts, in each split."""
    facts = dataset.facts
    marks = {facts.pad, facts.end}
    return {
        split: [
            tuple("".join(facts.vocabulary[k] for k in row if k not in marks) for row in (a, b))
            for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]
        for split, (x, y, *_) in dataset.splits.items()
    }


@pytest.mark.parametrize(("rule", "of"), [("reverse", lambda s: s[::-1]), ("copy", str), ("sort", sorted)])
def test_generated_sequences(rule, of):
    source = Sequences(**SHARED, samples=500, rule=rule, shortest=2, longest=5, symbols=6, generator_seed=0)
    found = texts(source.load())
    pairs = [pair for split in found.values() for pair in split]
    assert {answer == "".join(of(question)) for question, answer in pairs} == {True}
    assert len(set(pairs)) == len(pairs) == 500
    assert {len(question) for question, _ in pairs} == {2, 3, 4, 5}
    assert set("".join(question for question, _ in pairs)) == set("012345")


def test_generated_sums():
    found = texts(Addition(**SHARED, samples=800, digits=3, generator_seed=1).load())
    pairs = [pair for split in found.values() for pair in split]
    assert all(sum(map(int, question.split("+"))) == int(answer) for question, answer in pairs)
    unordered = collections.Counter(frozenset(question.split("+")) for question, _ in pairs)
    assert max(unordered.values()) == 1
    assert {len(n) for question, _ in pairs for n in question.split("+")} == {1, 2, 3}


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: Addition(**SHARED, samples=60, digits=1, generator_seed=0),
            "samples=60: must be at most half of the 55",
        ),
        (
            lambda: Sequences(**SHARED, samples=100, rule="copy", shortest=1, longest=2, symbols=10, generator_seed=0),
            "samples=100: must be at most half of the 110",
        ),
    ],
)
def test_more_samples_than_there_are_is_refused(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_words():
    assert words_of("Don't stop, the well-known d’Artagnan!", lower=True) == [
        *("don't", "stop", ",", "the", "well-known", "d’artagnan", "!"),
    ]
    with pytest.raises(ValueError, match="has 'c', which is none of the 2 known tokens"):
        as_rows([["a", "c"]], ("[pad]", "[start]", "[end]", "a", "b"), 3, end=False)


def written(tmp_path, lines):
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines) + "\n")
    return SentencePairs(**SHARED, **PAIRS, path=str(file))


def test_the_vocabulary_is_that_of_the_training_split(tmp_path):
    """Every word stands in one sentence only, so those of other splits are unknown; but those of `a` are known."""
    lines = [f"a w{k}.\tb v{k}.\tlicence" for k in range(40)] + ["a a a a a a a\tb\tx"]
    source = written(tmp_path, lines)
    dataset = source.load()
    facts = dataset.facts
    told = {k for row in dataset.splits["train"][0].tolist() for k in row}
    assert len(facts.vocabulary) == 4 + 2 + facts.sizes["train"] == len(told - {0}) + 3 + 1
    assert facts.vocabulary[:6] == ("[pad]", "[start]", "[end]", "[unk]", ".", "a")
    assert facts.class_names[:6] == ("[pad]", "[start]", "[end]", "[unk]", ".", "b")
    assert facts.target_shape == (6,)
    for split in ("val", "test"):
        x, y = dataset.splits[split]
        assert set(map(tuple, x.tolist())) == {(5, 3, 4, 0, 0, 0)}
        assert set(map(tuple, y.tolist())) == {(5, 3, 4, 2, 0, 0)}
    n = facts.sizes
    val, test = (f"{2 * n[split]} of {6 * n[split]} in {split}" for split in ("val", "test"))
    assert {
        f"words that are [unk]: {val}, {test}",
        "left out 1 of 41 pairs, longer than data.length=6",
        "columns that are not used, in 41 lines",
    } < set(facts.notes)
    new = source.load_like(facts)
    assert new.facts.vocabulary == facts.vocabulary
    known = sum((row != 3).all() for row in new.splits["new"][0].numpy())
    assert known == n["train"]


def test_a_small_vocabulary_keeps_the_most_frequent_words(tmp_path):
    lines = [f"x{k % 3} y{k % 12} u{k}\t{'p' if k % 4 else 'q'}" for k in range(60)]
    source = written(tmp_path, lines)
    source.vocabulary = 7
    dataset = source.load()
    assert set(dataset.facts.vocabulary[4:]) == {"x0", "x1", "x2"}  # each 20 times, the others 5
    assert set(dataset.facts.class_names[4:]) == {"p", "q"}


def test_equal_sentences_stay_in_one_split(tmp_path):
    source = written(tmp_path, [f"s{k // 3}\tt{k}" for k in range(90)])
    raw = source.read()
    index = source.taken(raw)
    of_split = [{int(raw.groups[i]) for i in rows} for _, rows in index.values()]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == 30


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a\tb\nonly one\n", r"line 2 has 1 column, and data.columns=\[1, 2\] needs 2"),
        (b"a\tb\n \tc\n", "line 2 has an empty sentence"),
        (b"\n\n", "holds no pair"),
        (b"a\xff\tb\n", "is no text in UTF-8"),
        (b"a a a a a a a a\tb\n", "every pair is longer than data.length=6"),
    ],
)
def test_a_file_without_pairs_is_refused(tmp_path, content, line):
    (tmp_path / "pairs.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=line):
        SentencePairs(**SHARED, **PAIRS, path=str(tmp_path / "pairs.tsv")).load()


def test_text_in_and_out(cli, tmp_path):
    """A translator of one's own file learns it, and says it for a text, lines of a file, and other data."""
    words = {"red": "rojo", "green": "verde", "dog": "perro", "cat": "gato", "eats": "come"}
    rng = np.random.default_rng(0)
    picked = {tuple(rng.choice(list(words), rng.integers(1, 5))) for _ in range(300)}
    lines = [f"{' '.join(some)}.\t{' '.join(words[w] for w in some)}." for some in sorted(picked)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    run = ["model=transformer", "data=sentence_pairs", "data.path=pairs.tsv", "data.length=8", "optim=adam"]
    run += ["model.width=32", "model.hidden=32", "optim.lr=5e-3", "train.epochs=25", "hydra.run.dir=run"]
    code, text = cli(*run)
    assert code == 0, text
    assert summary(tmp_path / "run")["test"]["exact_match"] > 0.9
    code, text = cli("predict", "run", "--text", "Red cat eats green horse.")
    assert code == 0, text
    assert "note: 1 words that the run's training split lacks are [unk]" in text
    assert re.search(r"Red cat eats green horse\. +│ rojo gato come verde", text)
    (tmp_path / "lines.txt").write_text("green dog.\tignored\n\n" + "dog " * 9 + "\n")
    code, text = cli("predict", "run", "lines.txt", "--csv")
    assert code == 1
    assert text.splitlines()[:2] == ["text,prediction", "green dog.,verde perro ."]
    assert "not predicted: lines.txt: text 2 has 9 tokens; the longest may have 8" in text
    code, text = cli("evaluate", "run", "--new-data", "data.path=pairs.tsv")
    assert code == 0, text
    assert "attention.png" in text
    for wrong in (["run"], ["run", "lines.txt", "--text", "dog"]):
        code, text = cli("predict", *wrong)
        assert (code, text.count("\n")) == (2, 1), text


def test_a_transformer_goes_on_exactly(goes_on):
    run = [*TINY, "data=sequences", "data.samples=100", "data.batch_size=20", "model.dropout=0.2", "optim=adam"]
    assert goes_on("batch", *run, "train.checkpoint_steps=1", "train.epochs=2", at_most=4)


def test_the_card_of_texts(cli):
    code, text = cli("data-card", "data=sequences", "data.samples=50", "data.symbols=3")
    assert code == 0, text
    assert "6 of inputs, 6 of targets" in text
    shares = [float(share) for share in re.findall(r"^│ \S+ +│ *\d+ +([\d.]+)%", text, re.M)]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    code, text = cli("model-card", "model=transformer", "data=mnist", "--input=7", "--outputs=14")
    assert code == 0, text
    code, text = cli("model-card", "model=transformer", "data=digits")
    assert (code, text.count("\n")) == (2, 1), text
