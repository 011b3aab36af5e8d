//! Plays mutated inputs against one reader, and shows the first that breaks its oracle, cut down to what matters.
//!
//! What an answer looks like (its [`Shape`]) steers the play: an input whose answer has a new shape joins the pool that
//! the next ones are made of. So it gets deeper than the good samples, on the stable toolchain.
//!
//! Invariant: without `FUZZ_SECONDS` the same inputs are played in each run.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    env, fs,
    hash::{Hash, Hasher},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::mutator::{Dice, mutate};

/// How many inputs the pool may hold.
const POOL_MAX: usize = 4000;

/// What no input takes; the usual is a millisecond.
const LONGEST: Duration = Duration::from_secs(20);

/// How often a failing input is tried with something left out.
const CUTS_MAX: usize = 3000;

/// What kind of an answer it was, as a number.
pub type Shape = u64;

/// A reader, and what has to hold for what it makes of any bytes.
pub struct Target {
    pub name: &'static str,
    /// Good samples, besides those in `tests/fuzz/corpus/<name>`.
    pub samples: Vec<Vec<u8>>,
    /// What is often put in.
    pub words: &'static [&'static [u8]],
    /// How many inputs the short form plays.
    pub inputs: usize,
    /// The complaint is a sentence. The folder is the judge's own.
    pub judge: fn(&[u8], &Path) -> Result<Shape, String>,
}

/// The shape of what hashes.
pub fn shape(of: impl Hash) -> Shape {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A text without its digits and quotes, so that what is about other names is of the same shape.
pub fn outline(text: &str) -> String {
    let mut parts = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    parts.retain(|it| !it.is_ascii_digit());
    parts
}

/// Plays as many inputs as `FUZZ_SECONDS` takes, or those of the short form.
pub fn play(target: Target) {
    if env::var("FUZZ_TARGET").is_ok_and(|it| it != target.name) {
        return;
    }
    let folder = tempfile::Builder::new().prefix("landfall-fuzz").tempdir_in(memory()).expect("a folder");
    if let Some(file) = env::var_os("FUZZ_INPUT") {
        judged(&target, &fs::read(file).expect("the input that is named"), folder.path());
        return;
    }
    let mut pool = target.samples.clone();
    pool.extend(corpus(target.name));
    let mut seen = HashSet::new();
    for sample in pool.clone() {
        seen.insert(judged(&target, &sample, folder.path()));
    }
    let seconds = env::var("FUZZ_SECONDS").ok().map(|it| it.parse().expect("a number of seconds"));
    let until = seconds.map(|it| Instant::now() + Duration::from_secs(it));
    let seed: u64 = env::var("FUZZ_SEED").map_or(1, |it| it.parse().expect("a number"));
    let (mut dice, mut count) = (Dice::of(seed), 0_usize);
    while until.map_or(count < target.inputs, |it| Instant::now() < it) {
        let input = mutate(&mut dice, &pool, target.words);
        if seen.insert(judged(&target, &input, folder.path())) && pool.len() < POOL_MAX {
            pool.push(input);
        }
        count += 1;
    }
    println!("{}: {count} inputs, {} kinds of answers, seed {seed}", target.name, seen.len());
}

/// What the judge says; the first complaint ends the test.
fn judged(target: &Target, input: &[u8], folder: &Path) -> Shape {
    match try_out(target, input, folder) {
        Ok(shape) => shape,
        Err(complaint) => {
            let small = cut_down(target, input.to_vec(), folder);
            let complaint = try_out(target, &small, folder).err().unwrap_or(complaint);
            let file =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{:016x}", target.name, shape(&small)));
            fs::write(&file, &small).expect("the input is kept");
            let (name, shown) = (target.name, small.escape_ascii());
            panic!("{name}: {complaint}\ninput: {shown}\nkept in {}", file.display());
        }
    }
}

fn try_out(target: &Target, input: &[u8], folder: &Path) -> Result<Shape, String> {
    let begun = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.judge)(input, folder)));
    let took = begun.elapsed();
    let shape = result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        format!("panicked: {}", text.or(panic.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default())
    })??;
    if took > LONGEST { Err(format!("took {took:?}")) } else { Ok(shape) }
}

/// Leaves out what can be left out, in ever smaller pieces.
fn cut_down(target: &Target, mut input: Vec<u8>, folder: &Path) -> Vec<u8> {
    let (mut piece, mut tries) = (input.len() / 2, 0);
    while piece > 0 && tries < CUTS_MAX {
        let mut at = 0;
        while at < input.len() && tries < CUTS_MAX {
            let without = [&input[..at], &input[(at + piece).min(input.len())..]].concat();
            tries += 1;
            match try_out(target, &without, folder) {
                Err(_) => input = without,
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    input
}

/// Inputs that once were trouble, or that lead deep.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).map(|it| it.map(|entry| entry.expect("an entry").path()).collect()).unwrap_or_default();
    files.sort();
    files.iter().map(|it| fs::read(it).expect("a readable file")).collect()
}

/// Where files cost no disk.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { env::temp_dir() }
}
