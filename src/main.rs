//! Starts the program; everything else is in the library.

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [word, run_dir] if word == "keeper" => landfall::keeper::serve(Path::new(run_dir)),
        [word] if word == "git-work" => landfall::keeper::git::serve(),
        _ => ExitCode::from(2),
    }
}
