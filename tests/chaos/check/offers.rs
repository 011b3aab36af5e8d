//! The law of remotes: what they offer is not missed for good.
//!
//! Invariant: a hook whose remote nobody ever pushed to, as far as anybody remembers, is not asked for.

use super::{CAUGHT_UP, Case, Violation, broken};

pub fn judge(case: &Case) -> Vec<Violation> {
    let mut found = Vec::new();
    for rule in case.rules.iter().filter(|it| it.has_tree) {
        let Some(offered) = case.offers.get(rule.repo) else { continue };
        let mut runs = case.record.runs.iter().filter(|it| it.hook == rule.name).peekable();
        let is_known = runs.peek().is_some();
        if is_known && !runs.any(|it| it.sha.as_ref() == Some(offered) && it.outcome.is_some()) {
            found.push(broken(
                CAUGHT_UP,
                format!("of {} no run has ended: the remote offers {offered}", rule.name),
                &[],
            ));
        }
    }
    found
}
