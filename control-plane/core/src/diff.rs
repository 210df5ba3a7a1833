//! What changes between two configurations.

use std::collections::BTreeMap;

use segue_proto::config::v1::Resource;

use crate::config::{ResourceKey, key, to_yaml};

/// What becomes of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    pub key: ResourceKey,
    pub kind: ChangeKind,
    /// YAML before; `None` where it did not exist.
    pub before: Option<String>,
    /// YAML after; `None` where it does not exist any more.
    pub after: Option<String>,
}

/// How a resource changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Unchanged,
    Created,
    Configured,
    Deleted,
}

/// What becomes of each resource of either side, in the order of keys, unchanged ones included.
/// Where one side has a key twice, the last counts.
pub fn diff(before: &[Resource], after: &[Resource]) -> Vec<ResourceChange> {
    let mut pairs: BTreeMap<ResourceKey, (Option<&Resource>, Option<&Resource>)> = BTreeMap::new();
    for resource in before {
        pairs.entry(key(resource)).or_default().0 = Some(resource);
    }
    for resource in after {
        pairs.entry(key(resource)).or_default().1 = Some(resource);
    }
    pairs
        .into_iter()
        .map(|(key, (before, after))| ResourceChange {
            key,
            kind: match (before, after) {
                (Some(before), Some(after)) if before == after => ChangeKind::Unchanged,
                (Some(_), Some(_)) => ChangeKind::Configured,
                (None, _) => ChangeKind::Created,
                (_, None) => ChangeKind::Deleted,
            },
            before: before.map(to_yaml),
            after: after.map(to_yaml),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourceText, parse};

    fn services(names: &[(&str, u16)]) -> Vec<Resource> {
        let document = |(name, port): &(&str, u16)| {
            format!(
                "kind: Service\nmetadata: {{name: {name}}}\n\
                 spec: {{port: {port}, versions: [{{name: v1}}]}}\n---\n"
            )
        };
        let content = names.iter().map(document).collect();
        let parsed = parse(&[SourceText { name: "a.yaml".to_owned(), content }]).unwrap();
        parsed.into_iter().map(|it| it.resource).collect()
    }

    #[test]
    fn each_resource_of_either_side_is_told_once() {
        let before = services(&[("gone", 80), ("same", 80), ("other", 80)]);
        let after = services(&[("other", 81), ("same", 80), ("new", 80)]);
        let changes = diff(&before, &after);
        let told: Vec<(&str, ChangeKind)> =
            changes.iter().map(|change| (change.key.name.as_str(), change.kind)).collect();
        assert_eq!(
            told,
            [
                ("gone", ChangeKind::Deleted),
                ("new", ChangeKind::Created),
                ("other", ChangeKind::Configured),
                ("same", ChangeKind::Unchanged),
            ]
        );
        assert_eq!((changes[0].after.as_deref(), changes[1].before.as_deref()), (None, None));
        assert!(changes[2].before.as_ref().unwrap().contains("port: 80\n"));
        assert!(changes[2].after.as_ref().unwrap().contains("port: 81\n"));
    }
}
