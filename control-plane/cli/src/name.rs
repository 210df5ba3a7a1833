//! Names of resources as people type and read them: `service chat`, `svc/chat`.

use clap::Args;
use segue_control_plane_core::config::Kind;
use segue_proto::admin::v1::change;
use segue_proto::config::v1::ResourceKey;
use segue_shared::ids::DEFAULT_NAMESPACE;

use crate::error::CliError;

/// Where resources are.
#[derive(Clone, Debug, Default, Args)]
pub struct Namespace {
    /// Namespace of the resources
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,
}

/// Reads a kind as people type it.
pub fn kind(text: &str) -> Result<Kind, CliError> {
    Kind::parse(text).ok_or_else(|| {
        let known: Vec<String> = Kind::ALL
            .into_iter()
            .map(|kind| format!("{} ({})", kind.plural(), kind.short()))
            .collect();
        CliError::Usage(format!("unknown kind {text:?}: use {}", known.join(", ")))
    })
}

/// Reads `KIND NAME…`, or `KIND/NAME…`.
pub fn keys(words: &[String], namespace: &str) -> Result<Vec<ResourceKey>, CliError> {
    let key = |kind: Kind, name: &str| ResourceKey {
        kind: kind.as_str().to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    match words {
        [] => Err(CliError::Usage("name a resource: KIND NAME, or KIND/NAME".to_owned())),
        [first, ..] if first.contains('/') => words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((of_kind, name)) if !name.is_empty() => Ok(key(kind(of_kind)?, name)),
                _ => Err(CliError::Usage(format!("{word:?} is not KIND/NAME"))),
            })
            .collect(),
        [first, names @ ..] => {
            let kind = kind(first)?;
            if names.is_empty() {
                return Err(CliError::Usage(format!("name the {}", kind.as_str())));
            }
            Ok(names.iter().map(|name| key(kind, name)).collect())
        }
    }
}

/// `service/chat`; `service/shop/cart` outside of the default namespace.
pub fn short(key: &ResourceKey) -> String {
    let kind = key.kind.to_ascii_lowercase();
    if key.namespace.is_empty() || key.namespace == DEFAULT_NAMESPACE {
        format!("{kind}/{}", key.name)
    } else {
        format!("{kind}/{}/{}", key.namespace, key.name)
    }
}

/// What became of a resource, in kubectl's words.
pub fn verb(kind: change::Kind) -> &'static str {
    match kind {
        change::Kind::Created => "created",
        change::Kind::Configured => "configured",
        change::Kind::Deleted => "deleted",
        change::Kind::Unchanged | change::Kind::Unspecified => "unchanged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_read_both_ways() {
        let both = keys(&words("svc/chat route/chat"), "default").unwrap();
        let names: Vec<String> = both.iter().map(short).collect();
        assert_eq!(names, ["service/chat", "route/chat"]);
        let two = keys(&words("services a b"), "shop").unwrap();
        let names: Vec<String> = two.iter().map(short).collect();
        assert_eq!(names, ["service/shop/a", "service/shop/b"]);
    }

    #[test]
    fn half_a_name_is_a_usage_error() {
        for text in ["svc", "svc/", "pod/x", "pod x"] {
            assert!(matches!(keys(&words(text), "default"), Err(CliError::Usage(_))), "{text}");
        }
    }
}
