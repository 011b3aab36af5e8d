//! Starts the program; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What tests ask for by FAILPOINTS.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    landfall::cli::main()
}
