//! Parallel requests, with exact counts and single winners.

mod changes;
mod codes;
mod passwords;
mod users;

use crate::helpers::ApiResponse;

/// Returns the index of the only response with status 200.
#[track_caller]
fn only_success(answers: &[ApiResponse]) -> usize {
    let winners: Vec<usize> = (0..answers.len()).filter(|&place| answers[place].status == 200).collect();
    let [winner] = winners[..] else { panic!("not one winner: {answers:?}") };
    winner
}
