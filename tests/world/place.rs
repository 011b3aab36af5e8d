//! A place where a hook deploys to: its strategy, how it reaches the remote, and what was there before.
//!
//! Invariant: nothing of a place is changed but by the daemon, or as a person would do it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    dice::Dice,
    git::{self, Reach},
    serve::{Servers, Way},
    snapshot::{Expected, Thing},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    InPlace,
    Releases,
    Checkout,
}

/// What an in-place tree is before its first deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Fresh,
    /// A person's `git clone`.
    Clone,
    /// The same, of three commits.
    Shallow,
    /// A clone whose remote is not `origin`.
    Upstream,
}

/// How a deploy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `landfall deploy --ref main`.
    Ref,
    /// `landfall deploy --sha`.
    Commit,
    /// A signed push.
    Push,
}

/// A place.
pub struct Place {
    /// The hook.
    pub name: String,
    pub strategy: Strategy,
    pub way: Way,
    pub start: Start,
    /// How many commits are fetched; zero is all.
    pub depth: u64,
    pub with_submodules: bool,
    /// It is deployed to at every so many steps, and at the last.
    pub stride: usize,
    pub folder: PathBuf,
    /// Checks that have failed here, each of which is told once.
    pub told: BTreeSet<String>,
    /// Deploys in a row that failed; it is left alone after three.
    pub failures: usize,
    /// Where submodules have been: git leaves those folders when it takes them out of a tree.
    pub former: BTreeSet<Vec<u8>>,
    /// What a file may be as long as its blob stays: git does not convert it anew when only attributes change.
    pub usable: BTreeMap<Vec<u8>, Vec<(String, Thing)>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, strategy, way, start, depth, stride, with_submodules, .. } = self;
        write!(f, "{name} ({strategy:?} by {way:?}")?;
        if *strategy == Strategy::InPlace {
            write!(f, ", {start:?}")?;
        }
        if *depth > 0 {
            write!(f, ", depth {depth}")?;
        }
        let submodules = if *with_submodules { ", submodules" } else { "" };
        write!(f, ", every {stride}{submodules})")
    }
}

impl Place {
    /// A place below `folder`.
    pub fn new(number: usize, strategy: Strategy, way: Way, start: Start, folder: &Path) -> Self {
        let name = format!("p{number}");
        Self {
            folder: folder.join(&name),
            name,
            strategy,
            way,
            start,
            depth: 0,
            with_submodules: false,
            stride: 1,
            told: BTreeSet::new(),
            failures: 0,
            former: BTreeSet::new(),
            usable: BTreeMap::new(),
        }
    }

    /// The places of a world: one of each strategy, and more that work in place.
    pub fn draw(dice: &mut Dice, with_submodules: bool, folder: &Path) -> Vec<Self> {
        let starts = [Start::Fresh, Start::Clone, Start::Shallow, Start::Upstream];
        let turn = dice.below(4) as usize;
        let strategies =
            [Strategy::InPlace, Strategy::InPlace, Strategy::InPlace, Strategy::Releases, Strategy::Checkout];
        let mut places = Vec::new();
        for (number, strategy) in strategies.into_iter().enumerate() {
            let start = match strategy {
                Strategy::InPlace => starts[(turn + number) % 4],
                Strategy::Releases | Strategy::Checkout => Start::Fresh,
            };
            let way = [Way::Http, Way::File, Way::Ssh][(number + dice.below(3) as usize) % 3];
            let mut place = Self::new(number, strategy, way, start, folder);
            place.with_submodules = with_submodules;
            place.depth = if start == Start::Fresh && dice.chance(20) { 1 + dice.below(5) } else { 0 };
            place.stride = *dice.weighted(&[1, 2, 3, 1000], |it| if *it == 1 { 60 } else { 13 });
            places.push(place);
        }
        places
    }

    /// The hook, as hooks.yaml has it.
    pub fn hook(&self, servers: &Servers, repository: &str) -> String {
        let (name, remote) = (&self.name, servers.url(self.way, repository));
        let (strategy, path) = match self.strategy {
            Strategy::InPlace => ("in-place", format!(", path: '{}'", self.folder.display())),
            Strategy::Releases => ("releases", format!(", path: '{}', keep: 2", self.folder.display())),
            Strategy::Checkout => ("checkout", String::new()),
        };
        let submodules = if self.with_submodules { ", submodules: recursive" } else { "" };
        let depth = if self.depth > 0 { format!(", depth: {}", self.depth) } else { String::new() };
        let credentials = servers.credentials(self.way);
        // The tree of a checkout goes with its run, so the script keeps a copy.
        let run = match self.strategy {
            Strategy::Checkout => "rm -rf \"$OUT\" && mkdir \"$OUT\" && cp -a . \"$OUT\"",
            Strategy::InPlace | Strategy::Releases => "true",
        };
        format!(
            "  {name}:\n    github: acme/site\n    secret: {{env: SECRET}}\n    on: {{push: main}}\n    \
             env: {{OUT: '{}'}}\n    run: '{run}'\n    deploy: {{strategy: {strategy}{path}, remote: '{remote}', \
             min_free: 1MiB{submodules}{depth}{credentials}}}\n",
            self.folder.display()
        )
    }

    /// Where the deployed tree is.
    pub fn tree(&self) -> PathBuf {
        match self.strategy {
            Strategy::InPlace | Strategy::Checkout => self.folder.clone(),
            Strategy::Releases => self.folder.join("current"),
        }
    }

    /// What the remote is called in an in-place tree.
    pub fn remote_name(&self) -> &'static str {
        if self.start == Start::Upstream { "upstream" } else { "origin" }
    }

    /// Whether it has all history.
    pub fn is_whole(&self) -> bool {
        self.depth == 0 && self.start != Start::Shallow
    }

    /// Makes the clone that a person made beforehand; `expected` is what is in it.
    pub fn prepare(&mut self, url: &str, reach: &Reach, expected: &Expected) {
        let mut arguments = vec!["clone", "--quiet", "-o", self.remote_name()];
        match self.start {
            Start::Fresh => return,
            Start::Clone | Start::Upstream => (),
            Start::Shallow => arguments.extend(["--depth", "3"]),
        }
        if self.with_submodules {
            arguments.push("--recurse-submodules");
        }
        let folder = self.folder.to_str().expect("a plain name").to_owned();
        arguments.extend([url, &folder]);
        let above = self.folder.parent().expect("a folder");
        git::ask(reach, above, &arguments).unwrap_or_else(|why| panic!("a person cannot clone: {why}"));
        self.expect(expected, true);
    }

    /// Takes down what is to be here from now on, or may be, where a deploy broke off.
    pub fn expect(&mut self, expected: &Expected, is_deployed: bool) {
        for (path, blob) in &expected.blobs {
            let Some(thing) = expected.tree.get(path) else { continue };
            let states = self.usable.entry(path.clone()).or_default();
            let state = (blob.clone(), thing.clone());
            states.retain(|it| *it != state && (!is_deployed || it.0 == *blob));
            states.push(state);
        }
        if is_deployed {
            self.usable.retain(|path, _| expected.blobs.contains_key(path));
        }
        self.former.extend(expected.submodules.iter().cloned());
    }

    /// Whether git might leave this file so, although a fresh checkout would have it as `fresh`.
    pub fn is_usable(&self, path: &[u8], fresh: &Thing, thing: &Thing) -> bool {
        let (Thing::File { is_executable, digest, .. }, Thing::File { is_executable: bit, .. }) = (thing, fresh) else {
            return false;
        };
        let is_it = |it: &Thing| matches!(it, Thing::File { digest: own, .. } if own == digest);
        // The bit is of the commit, whatever the content is.
        self.strategy == Strategy::InPlace && is_executable == bit && self.states(path).any(is_it)
    }

    /// Whether attributes have changed under this file, so that git itself may call it modified.
    pub fn is_ambiguous(&self, path: &[u8]) -> bool {
        self.states(path).count() > 1
    }

    /// What this file may be with the blob that it has now.
    fn states(&self, path: &[u8]) -> impl Iterator<Item = &Thing> {
        let states = self.usable.get(path).map(Vec::as_slice).unwrap_or_default();
        let now = states.last().map(|(blob, _)| blob);
        states.iter().filter(move |(blob, _)| Some(blob) == now).map(|(_, thing)| thing)
    }

    /// Whether this is, leads to, or is in the folder of a submodule that is no more.
    pub fn is_left_by_submodule(&self, path: &[u8]) -> bool {
        let folder = |it: &[u8]| [it.strip_suffix(b"/").unwrap_or(it), b"/"].concat();
        let path = folder(path);
        self.strategy == Strategy::InPlace
            && self.former.iter().map(|it| folder(it)).any(|it| it.starts_with(&path) || path.starts_with(&it))
    }
}
