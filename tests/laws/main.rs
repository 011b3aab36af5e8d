//! The laws of the store: its verbs in any order, with crashes at every commit, judged after every step.
//!
//! A failure prints the law, what had happened until it was broken, the shortest script that breaks it, and the seed.
//! `PROPTEST_CASES=2000` plays more scripts than the few that are usual; `PROPTEST_RNG_SEED=...` plays the same again.

mod cast;

mod engine;

mod verbs;

mod acts;

mod view;

mod model;

mod laws;

mod stage;

use std::{
    env,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use tokio::runtime::Builder;

use self::{
    cast::Cast,
    engine::{Engine, SQLITE},
    laws::Law,
    stage::Stage,
    verbs::{EVERYTHING, Mix, scripts},
};

/// Failpoints are of the whole process: one script at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The engines that have to obey.
const ENGINES: [Engine; 1] = [SQLITE];

/// Steps of the longest script.
const STEPS_MAX: usize = 30;

/// Scripts for a family of laws, where nobody asks for more.
const CASES: u32 = 10;

/// Tries to shorten a script.
const SHRINKS_MAX: u32 = 600;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{it}`")))
}

/// Plays scripts of a mix before the eyes of some laws.
fn hold(laws: &[Law], mix: Mix) {
    play(laws, mix, false, 1);
}

fn play(laws: &[Law], mix: Mix, with_model: bool, times: u32) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let seed = number("PROPTEST_RNG_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    let cases = number("PROPTEST_CASES").map_or(CASES * times, |it| u32::try_from(it).expect("a number of cases"));
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: SHRINKS_MAX,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let cast = Cast::gather();
    for engine in ENGINES {
        let played = TestRunner::new(config.clone()).run(&scripts(mix, STEPS_MAX), |script| {
            let played = runtime.block_on(Stage::new(&engine, &cast, laws, with_model).play(&script));
            played.map_err(|broken| TestCaseError::fail(broken.to_string()))
        });
        match played {
            Ok(()) => (),
            Err(TestError::Fail(broken, script)) => {
                panic!("{broken}\n\nthe shortest script that does it:{script:?}\n\nPROPTEST_RNG_SEED={seed}\n")
            }
            Err(error @ TestError::Abort(_)) => panic!("no verdict: {error}"),
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_crash_and_what_was_not_committed_is_not_there() {
    let laws = [
        laws::ACKNOWLEDGED_IS_STORED,
        laws::UNCOMMITTED_LEAVES_NOTHING,
        laws::COMMITTED_IS_THERE,
        laws::AGAIN_CHANGES_NOTHING,
    ];
    hold(&laws, Mix { trouble: 45, restarts: 5, ..EVERYTHING });
}

#[test]
fn one_delivery_is_one_run_of_each_hook_that_wants_it_unless_it_ended_badly() {
    let laws = [laws::ONE_RUN_OF_A_DELIVERY, laws::EVERY_HOOK_HAS_ITS_RUN_OR_ITS_REASON];
    hold(&laws, Mix { pushes: 60, letters: 0, holds: 0, void: 0, ..EVERYTHING });
}

#[test]
fn a_lane_has_one_run_in_hand_and_goes_in_the_order_of_acceptance() {
    hold(&[laws::ONE_IN_HAND, laws::IN_ORDER], Mix { letters: 0, ..EVERYTHING });
}

#[test]
fn a_run_gives_way_only_to_a_newer_push_and_says_to_which() {
    hold(&[laws::SUPERSEDED_BY_NEWER], Mix { pushes: 60, letters: 0, ..EVERYTHING });
}

#[test]
fn whose_place_was_taken_in_vain_waits_again() {
    let laws = [laws::NOBODY_GIVES_WAY_IN_VAIN, laws::IN_ORDER];
    hold(&laws, Mix { pushes: 50, people: 14, work: 50, letters: 0, holds: 2, trouble: 6, ..EVERYTHING });
}

#[test]
fn fences_rise_and_a_void_claim_is_refused() {
    hold(
        &[laws::FENCES_RISE, laws::VOID_CLAIMS_CHANGE_NOTHING],
        Mix { void: 30, restarts: 10, letters: 0, ..EVERYTHING },
    );
}

#[test]
fn what_never_began_waits_again_what_began_never_does_and_each_run_ends_once() {
    let laws = [laws::NOTHING_LEAVES_A_HAND_SILENTLY, laws::A_RUN_ENDS_ONCE];
    hold(&laws, Mix { work: 60, void: 10, restarts: 8, letters: 0, trouble: 20, ..EVERYTHING });
}

#[test]
fn an_outcome_and_its_letters_are_there_together_or_not_at_all() {
    hold(&[laws::LETTERS_COME_WITH_THEIR_CAUSE], Mix { work: 70, trouble: 30, ..EVERYTHING });
}

#[test]
fn a_letter_is_handed_out_until_somebody_says_what_became_of_it() {
    hold(&[laws::LETTERS_STAY_UNTIL_ACKNOWLEDGED], Mix { work: 50, letters: 60, restarts: 6, ..EVERYTHING });
}

#[test]
fn a_hold_keeps_jobs_waiting_and_loses_none() {
    hold(&[laws::HOLDS_HOLD, laws::IN_ORDER], Mix { holds: 40, time: 15, letters: 0, ..EVERYTHING });
}

#[test]
fn no_lane_waits_longer_behind_others_than_priorities_are_worth() {
    let laws = [laws::NOBODY_IS_PASSED_OVER];
    hold(&laws, Mix { pushes: 50, time: 25, jumps: 8, letters: 0, trouble: 4, ..EVERYTHING });
}

#[test]
fn nothing_waits_longer_than_its_configured_length_however_the_clock_jumps() {
    hold(&[laws::NO_WAIT_IS_LONGER], Mix { work: 60, holds: 8, letters: 20, time: 15, jumps: 25, ..EVERYTHING });
}

#[test]
fn every_push_that_deploys_nothing_has_its_reason_stored() {
    hold(&[laws::REASONS_ARE_STORED], Mix { pushes: 60, letters: 0, ..EVERYTHING });
}

#[test]
fn the_store_obeys_every_law_and_agrees_with_the_model_after_every_verb() {
    play(&laws::ALL, EVERYTHING, true, 4);
}
