//! `why`: the chain of decisions behind a hook, a run, a commit or a delivery, in sentences.
//!
//! Invariant: the sentences come from reasons that were stored when the decisions were made.

use clap::Args;

use crate::{
    cli::{
        Exit, Reach,
        client::Client,
        out::println,
        show::escape,
        table::{BOLD, clean, conclude, print_json},
    },
    web::views::Explanation,
};

/// Options of `why`.
#[derive(Args)]
pub(super) struct Options {
    /// A hook, a run's number, a commit (7 digits or more), a delivery's id, or `delivery:N` by its number
    #[arg(value_name = "HOOK|RUN|SHA|DELIVERY")]
    about: String,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `landfall why`.
pub(super) fn why(options: &Options) -> Exit {
    let path = format!("/v1/why?about={}", escape(&options.about));
    let explanation = Client::find(&options.reach).and_then(|client| client.get::<Explanation>(&path));
    conclude(explanation.map(|explanation| {
        if options.json {
            return print_json(&explanation);
        }
        println!("{BOLD}{}{BOLD:#}", clean(&explanation.about));
        for sentence in &explanation.sentences {
            println!("  {}", clean(sentence));
        }
        Exit::Ok
    }))
}
