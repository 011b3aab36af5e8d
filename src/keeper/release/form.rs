//! How a release, and the paths that releases share, are written in an errand.
//!
//! Invariant: a release is written as in the record of releases.

/// A release, or perhaps one: `#[serde(with = "form::record")]`.
pub(super) mod record {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::journal::releases::{self, Release};

    pub(in super::super) fn serialize<S: Serializer>(release: &Release, serializer: S) -> Result<S::Ok, S::Error> {
        releases::encode(release).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Release, D::Error> {
        releases::decode(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Perhaps a release.
pub(super) mod perhaps_record {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::journal::releases::{self, Release};

    pub(in super::super) fn serialize<S: Serializer>(
        release: &Option<Release>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        release.as_ref().map(releases::encode).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Release>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|it| releases::decode(&it)).transpose().map_err(D::Error::custom)
    }
}

/// Names of releases.
pub(super) mod names {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::model::release::ReleaseName;

    pub(in super::super) fn serialize<S: Serializer>(names: &[ReleaseName], serializer: S) -> Result<S::Ok, S::Error> {
        names.iter().map(ReleaseName::as_str).collect::<Vec<_>>().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Vec<ReleaseName>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let parsed: Option<Vec<_>> = names.iter().map(|it| ReleaseName::parse(it)).collect();
        parsed.ok_or_else(|| D::Error::custom("not a release's name"))
    }
}

/// Paths that releases share.
pub(super) mod shared {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::deploy::SharedPath;

    type Form = (PathBuf, bool, Option<PathBuf>, Option<u32>);

    pub(in super::super) fn serialize<S: Serializer>(shared: &[SharedPath], serializer: S) -> Result<S::Ok, S::Error> {
        let form = |it: &SharedPath| (it.path.clone(), it.required, it.seed.clone(), it.mode);
        shared.iter().map(form).collect::<Vec<Form>>().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<SharedPath>, D::Error> {
        let forms = Vec::<Form>::deserialize(deserializer)?;
        let plain = |(path, required, seed, mode)| SharedPath { path, required, seed, mode };
        Ok(forms.into_iter().map(plain).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        keeper::release::{Errand, Order},
        model::{deploy::SharedPath, name::HookName, release::ReleaseName},
        process::errand,
    };

    #[test]
    fn an_errand_comes_over_as_it_was_given() {
        let shared = SharedPath { path: "a".into(), required: true, seed: Some("b".into()), mode: Some(0o640) };
        let (hook, wanted) = (HookName::parse("site").expect("a name"), ReleaseName::parse("x-r1"));
        let order = Order::Look { hook, shared: vec![shared], wanted };
        let given = Errand { root: "/srv/x".into(), umask: 0o022, order };
        let read: Errand = serde_json::from_str(&errand::encode(&given)).expect("readable");
        assert_eq!(read, given);
    }
}
