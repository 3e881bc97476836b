"""Flags and sizes as whole numbers: each rule of "Sizes", the errors with their way out, and the decimal arithmetic."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain.core.fractions_to_batches import fraction_of
from fsmtrain.core.limits import NO_LIMIT, Limits, resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import FsmtrainError, SizesError
from fsmtrain.options import Options
from tests.reference import (
    Every,
    Replaced,
    at_most,
    batches_used,
    has_validation,
    is_refused,
    sanity_batches,
    share_of,
    windows_of,
)
from tests.strategies import configurations

TRUE_LENGTHS = (0, 0, 0)  # of streams, where nobody asks


def limits(train: int | None = 10, **flags: Any) -> Limits:
    """The limits of a run; `val`, `test`, `optimizers` and `fits` are sizes, the rest are flags."""
    sizes = {name: flags.pop(name) for name in ("val", "test", "optimizers", "fits", "splits") if name in flags}
    return resolve(Options(**flags), Sizes(train=train, **sizes))


# ---- the decimal number as written


def test_a_fraction_is_taken_of_the_decimal_number_as_written() -> None:
    """Every percentage of two decimals of up to 120 batches, and what binary floating point would have said."""
    differs = 0
    for batches in range(121):
        for hundredths in range(1, 101):
            exact = batches * hundredths // 100
            assert fraction_of(batches, hundredths / 100) == exact
            differs += int(batches * (hundredths / 100)) != exact
    assert differs > 0


@given(st.integers(0, 10**9), st.floats(0.0, 1.0, exclude_min=True))
@settings(max_examples=300, deadline=None)
def test_a_fraction_is_that_of_the_shortest_decimal_that_means_the_float(batches: int, fraction: float) -> None:
    assert fraction_of(batches, fraction) == math.floor(batches * Fraction(repr(fraction)))


@pytest.mark.parametrize(
    ("batches", "fraction", "expected"),
    [(100, 0.29, 29), (45, 0.1, 4), (10, 0.95, 9), (10, 0.25, 2), (7, 0.5, 3), (1, 1.0, 1), (3, 1 / 3, 0), (10, 0.7, 7)],
)
def test_documented_fractions(batches: int, fraction: float, expected: int) -> None:
    assert fraction_of(batches, fraction) == expected


def test_other_types_of_real_numbers_count_as_their_value() -> None:
    """A quarter is a quarter, whoever wrote it."""
    assert limits(8, val=1, val_check_interval=Fraction(1, 4)).val_check_batches == 2
    assert limits(8, train_percent_check=Fraction(1, 4)).train_batches == 2


def test_a_single_precision_number_is_the_decimal_that_it_shows() -> None:
    numpy = pytest.importorskip("numpy")
    assert limits(100, val=1, val_check_interval=numpy.float32(0.29)).val_check_batches == 29
    assert limits(100, train_percent_check=numpy.float32(0.29)).train_batches == 29


# ---- the rules, one by one


def test_train_batches_are_the_percentage_of_the_loader() -> None:
    assert limits(100, train_percent_check=0.29).train_batches == 29
    assert limits(45, train_percent_check=0.1).train_batches == 4
    assert limits(45, train_percent_check=1).train_batches == 45


def test_an_interval_longer_than_the_epoch_is_refused_with_the_guard_that_counts_over_epochs() -> None:
    with pytest.raises(SizesError, match=r"Guards\(validate=guard\), whose guard returns counters.batches_begun % 10 == 0"):
        limits(4, val=1, val_check_interval=10)


def test_each_evaluation_loader_is_cut_by_itself() -> None:
    cut = limits(val=[2, 6], val_percent_check=0.5, test=[8, 2, 3], test_percent_check=0.5)
    assert (cut.val_loaders, cut.val_batches) == ((1, 3), 4)
    assert (cut.test_loaders, cut.test_batches) == ((4, 1, 1), 6)


def test_one_loader_is_a_list_of_one() -> None:
    assert Sizes(train=1, val=[12], test=(3,)) == Sizes(train=1, val=12, test=3)
    assert Sizes(train=1, val=None) == Sizes(train=1, val=[None])


def test_zero_percent_switches_an_evaluation_off() -> None:
    off = limits(val=[3], val_percent_check=0, test=[3], test_percent_check=0.0)
    assert (off.validates, off.has_sanity, off.tests) == (False, False, False)


def test_an_empty_evaluation_loader_is_nothing_to_evaluate() -> None:
    empty = limits(val=[0, 0], test=0, val_percent_check=0.1)
    assert (empty.validates, empty.has_sanity, empty.tests) == (False, False, False)
    assert limits(val=[0, 4]).val_loaders == (0, 4)


@pytest.mark.parametrize("overfit", [0.5, 1, 1.0])
def test_overfit_pct_replaces_all_three_percentages(overfit: float) -> None:
    """The explicit ones too."""
    all_three = limits(
        20,
        val=[10],
        test=[6],
        overfit_pct=overfit,
        train_percent_check=0.1,
        val_percent_check=0,
        test_percent_check=0.3,
        nb_sanity_val_steps=2,
    )
    assert (all_three.train_batches, all_three.val_batches, all_three.test_batches) == (20 * overfit, 10 * overfit, 6 * overfit)
    assert all_three.sanity_batches == 2


def test_overfit_pct_of_zero_replaces_nothing() -> None:
    assert limits(20, overfit_pct=0, train_percent_check=0.1).train_batches == 2


@pytest.mark.parametrize(
    ("train", "interval", "expected"),
    [(10, 0.25, 2), (10, 0.95, 9), (7, 0.5, 3), (3, 0.1, 1), (10, 1.0, 10), (10, 10, 10), (10, 1, 1), (100, 0.29, 29)],
)
def test_val_check_interval_is_a_fraction_of_the_epoch_or_a_number_of_batches(
    train: int, interval: float, expected: int
) -> None:
    assert limits(train, val=1, val_check_interval=interval).val_check_batches == expected


def test_val_check_interval_is_a_fraction_of_the_batches_that_are_used() -> None:
    assert limits(100, val=1, train_percent_check=0.1, val_check_interval=0.5).val_check_batches == 5


def test_the_sanity_pass_is_not_enlarged_by_the_percentage() -> None:
    assert limits(val=[2, 9], nb_sanity_val_steps=5).sanity_loaders == (2, 5)
    assert limits(val=[2, 8], nb_sanity_val_steps=5, val_percent_check=0.5).sanity_loaders == (2, 5)
    assert limits(val=[4], nb_sanity_val_steps=-1).has_sanity is False
    assert limits(val=[None], nb_sanity_val_steps=3).sanity_loaders == (3,)


def test_a_stream_has_no_total() -> None:
    stream = limits(None, val=[3, None], test=[None], val_check_interval=4)
    assert (stream.train_batches, stream.val_batches, stream.sanity_batches, stream.test_batches) == (0, 0, 0, 0)
    assert (stream.train_is_stream, stream.evaluates_stream) == (True, True)
    assert (stream.val_loaders, stream.test_loaders, stream.val_check_batches) == ((3, None), (None,), 4)


def test_a_run_that_only_tests_trains_no_epoch_and_asks_nothing_of_the_train_loader() -> None:
    only = limits(0, fits=False, val=[3], test=[4], val_percent_check=0.01, train_percent_check=0.01)
    assert (only.epochs, only.validates, only.has_sanity, only.test_batches) == (0, False, False, 4)
    assert (only.train_batches, only.train_is_stream) == (0, False)


def test_a_run_without_epochs_tries_out_those_val_loaders_that_have_batches() -> None:
    found = limits(4, max_nb_epochs=0, val=[0, 3])
    assert (found.has_sanity, found.sanity_loaders, found.validates) == (True, (0, 3), False)


def test_what_is_not_gone_through_sets_no_limit() -> None:
    streamed = {"val": [None], "val_check_interval": 2}
    assert limits(4, **streamed).evaluates_stream is True
    assert limits(4, **streamed, val_percent_check=0).evaluates_stream is False
    own = resolve(Options(val_check_interval=2), Sizes(train=4, val=[1]), has_validation_guard=True)
    assert (own.val_check_batches, limits(4, val=[]).val_check_batches, limits(4, **streamed).val_check_batches) == (0, 0, 2)
    assert (limits(4).splits_batches, limits(4, truncated_bptt_steps=5).splits_batches) == (False, True)


def test_a_validate_guard_causes_no_validation_without_epochs() -> None:
    options = Options(max_nb_epochs=0, nb_sanity_val_steps=0, val_percent_check=0.01)
    found = resolve(options, Sizes(train=4, val=[3]), has_validation_guard=True)  # so too small a percentage is not refused
    assert (found.validates, found.val_batches) == (False, 0)


def test_rules_apply_only_to_loops_that_will_run() -> None:
    assert limits(0, max_nb_epochs=0).epochs == 0
    assert limits(4, val=[3], val_percent_check=0, val_check_interval=9).validates is False
    assert limits(4, val=[], val_check_interval=9).validates is False
    assert limits(None, val=[]).validates is False
    assert limits(4, val=[3], max_nb_epochs=1, check_val_every_n_epoch=2, val_check_interval=9).validates is False
    assert (
        limits(4, val=[3], max_nb_epochs=1, check_val_every_n_epoch=2, val_percent_check=0.1, nb_sanity_val_steps=0).epochs == 1
    )


def test_early_stopping_is_on_only_if_there_is_a_validation() -> None:
    assert limits(val=1, early_stop_callback=True).stops_early is True
    assert limits(val=1, early_stop_callback=False).stops_early is False
    assert limits(val=[], early_stop_callback=True).stops_early is False


@given(configurations(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_limits_are_those_of_the_reference(configuration: tuple[Options, Sizes], has_validation_guard: bool) -> None:
    """What is refused there is refused here, and the rest has the same whole numbers."""
    options, sizes = configuration
    replaced = Replaced(validate=Every(n=2)) if has_validation_guard else Replaced()
    if is_refused(options, sizes, replaced):
        with pytest.raises(SizesError):
            resolve(options, sizes, has_validation_guard=has_validation_guard)
        return
    found = resolve(options, sizes, has_validation_guard=has_validation_guard)
    assert found.epochs == ((NO_LIMIT if options.max_nb_epochs is None else options.max_nb_epochs) if sizes.fits else 0)
    assert [found.window_of(epoch) for epoch in range(6)] == [windows_of(options, epoch) for epoch in range(6)]
    if found.epochs and sizes.train is not None:
        share = share_of(sizes.train, options.overfit_pct or options.train_percent_check)
        assert found.train_batches == at_most(options.limit_train_batches, share)
    streams = tuple(1 if n is None else 0 for n in sizes.val)
    val = batches_used(options, options.val_percent_check, options.limit_val_batches, sizes.val, streams)
    assert found.validates == (any(val) and has_validation(options, sizes, replaced))
    assert found.has_sanity == (sanity_batches(options, sizes, streams) > 0)
    if found.validates and None not in sizes.val:
        assert found.val_batches == sum(val)
        assert found.sanity_batches == sanity_batches(options, sizes, TRUE_LENGTHS)
    if None not in sizes.test:
        most = options.limit_test_batches
        assert found.test_batches == sum(batches_used(options, options.test_percent_check, most, sizes.test, TRUE_LENGTHS))
        assert found.tests == (found.test_batches > 0)


def test_the_window_of_each_epoch_is_that_of_a_schedule_written_out() -> None:
    """Every dict of up to three first epochs below 5, each with K of 1 to 3, against a list with one K for each epoch."""
    for firsts in itertools.chain.from_iterable(itertools.combinations(range(5), n) for n in (1, 2, 3)):
        for lengths in itertools.product((1, 2, 3), repeat=len(firsts)):
            written_out = [1] * 7
            for first, length in zip(firsts, lengths, strict=True):
                written_out[first:] = [length] * (7 - first)
            for order in (1, -1):
                given = dict(list(zip(firsts, lengths, strict=True))[::order])
                assert [limits(accumulate_grad_batches=given).window_of(epoch) for epoch in range(7)] == written_out


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 7))
def test_the_batches_between_validations_are_those_of_the_reference(train: int, hundredths: int, every: int) -> None:
    """In whole hundredths, so that no fraction is rounded on the way."""
    found = limits(train, val=[1], val_check_interval=hundredths / 100, check_val_every_n_epoch=every)
    assert (found.val_check_batches, found.val_check_epochs) == (max(1, train * hundredths // 100), every)
    batches = 1 + train * hundredths // 101
    assert limits(train, val=[1], val_check_interval=batches).val_check_batches == batches


# ---- the errors


@pytest.mark.parametrize(
    ("train", "flags", "says"),
    [
        (0, {}, ["train_dataloader", "no batches", "drop_last"]),
        (5, {"train_percent_check": 0.1}, ["train_percent_check=0.1", "train loader", "5 batches", "train_percent_check=0.2"]),
        (45, {"train_percent_check": 0.01}, ["train_percent_check=0.01", "45 batches", "train_percent_check=0.023"]),
        (9, {"val": [8, 2], "val_percent_check": 0.2}, ["val_percent_check=0.2", "val loader", "2 batches", "=0.5"]),
        (9, {"test": [1], "test_percent_check": 0.9}, ["test_percent_check=0.9", "test loader", "1 batch ", "=1.0"]),
        (20, {"val": [3], "overfit_pct": 0.1}, ["overfit_pct=0.1", "val loader", "3 batches", "overfit_pct=0.34"]),
        (None, {"train_percent_check": 0.5}, ["train_percent_check=0.5", "train loader", "no length", "default"]),
        (None, {"overfit_pct": 0.5}, ["overfit_pct=0.5", "train loader", "no length"]),
        (None, {"overfit_pct": 1.0}, ["overfit_pct=1.0", "no length"]),
        (9, {"val": [None], "val_percent_check": 0.5}, ["val_percent_check=0.5", "val loader", "no length"]),
        (9, {"test": [4, None], "test_percent_check": 0.5}, ["test_percent_check=0.5", "test loader", "no length"]),
        (9, {"test": [None], "overfit_pct": 1}, ["overfit_pct=1", "test loader", "no length"]),
        (9, {"val": 1, "val_check_interval": 10}, ["val_check_interval=10", "9 batches", "never", "<= 9"]),
        (1, {"val": 1, "val_check_interval": 2}, ["val_check_interval=2", "1 batch,", "<= 1"]),
        (None, {"val": 1}, ["val_check_interval=0.95", "no length", "val_check_interval=100", "val_percent_check=0"]),
    ],
)  # fmt: skip
def test_an_error_names_the_flag_its_value_and_the_way_out(train: int | None, flags: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(SizesError) as caught:
        limits(train, **flags)
    for words in says:
        assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FsmtrainError)


def test_the_percentage_that_an_error_offers_works_and_gives_one_batch() -> None:
    for train in [*range(1, 300), 999, 1000, 1001, 12_345, 10**6, 10**9 + 7]:
        with pytest.raises(SizesError) as caught:
            limits(train, train_percent_check=1e-12)
        found = re.search(r"that works is train_percent_check=(\S+)\.$", str(caught.value))
        assert found is not None
        offered = float(found[1])
        assert limits(train, train_percent_check=offered).train_batches == 1
        assert offered <= 1.1 / train


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"train": -1}, "train=-1"),
        ({"train": 2.0}, "train=2.0"),
        ({"train": True}, "train=True"),
        ({"train": "many"}, "train='many'"),
        ({"val": [3, -2]}, "val=-2"),
        ({"val": "ab"}, "val='ab'"),
        ({"test": [1.5]}, "test=1.5"),
        ({"optimizers": 0}, "optimizers=0"),
        ({"optimizers": None}, "optimizers=None"),
        ({"splits": 0}, "splits=0"),
        ({"splits": True}, "splits=True"),
    ],
)
def test_sizes_are_whole_numbers_in_their_range(sizes: dict[str, Any], says: str) -> None:
    with pytest.raises(SizesError, match=re.escape(f"Sizes({says})")):
        Sizes(**sizes)


@pytest.mark.parametrize(("train", "said"), [(1, "an epoch has 1 batch,"), (2, "an epoch has 2 batches,")])
def test_an_error_counts_one_batch_in_the_singular(train: int, said: str) -> None:
    with pytest.raises(SizesError, match=said):
        resolve(Options(val_check_interval=9), Sizes(train=train, val=[1]))
