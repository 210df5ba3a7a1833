//! The shape of every message that people write, read once from the descriptors: names, forms,
//! bounds and comments. YAML, JSON and JSON Schema are all derived from it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor,
    FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use segue_proto::FILE_DESCRIPTOR_SET;
use segue_proto::config::v1::Rule;

const PACKAGE: &str = "segue.config.v1";
const DURATION: &str = "google.protobuf.Duration";
/// Elements of a list or a map whose rule names no limit.
const MAX_ITEMS: u32 = 1000;

/// All messages of the package, by full name.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    messages: BTreeMap<String, MessageShape>,
}

/// One message.
#[derive(Debug)]
pub(super) struct MessageShape {
    pub descriptor: MessageDescriptor,
    /// Name without the package, such as `Pin` or `SessionKey.Learn`.
    pub name: String,
    pub doc: String,
    /// In the order of the definition.
    pub fields: Vec<FieldShape>,
    /// Names of the fields of each choice; exactly one of them must be there.
    pub choices: Vec<Vec<String>>,
}

/// One field.
#[derive(Debug)]
pub(super) struct FieldShape {
    pub descriptor: FieldDescriptor,
    /// As written in YAML and JSON.
    pub name: String,
    pub doc: String,
    pub form: Form,
    pub list: bool,
    pub rule: Rule,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) enum Form {
    Bool,
    /// Bounds of the type.
    Integer {
        min: i128,
        max: i128,
    },
    Number,
    Text,
    /// GEP-2257.
    Duration,
    Enum(Vec<EnumText>),
    /// Text to text.
    Map,
    /// Full name.
    Message(String),
}

/// A value of an enum that can be written.
#[derive(Debug)]
pub(super) struct EnumText {
    pub number: i32,
    pub text: String,
    pub doc: String,
}

impl FieldShape {
    /// Largest number of elements.
    pub fn max_items(&self) -> usize {
        let max = if self.rule.max_items == 0 { MAX_ITEMS } else { self.rule.max_items };
        max as usize
    }
}

impl MessageShape {
    pub fn field(&self, name: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Shapes {
    /// By full name.
    pub fn message(&self, full_name: &str) -> Option<&MessageShape> {
        self.messages.get(full_name)
    }

    /// By the name of a kind, or of another message of the package.
    pub fn of(&self, name: &str) -> Option<&MessageShape> {
        self.message(&format!("{PACKAGE}.{name}"))
    }
}

/// The shapes of this release. Empty if the compiled-in descriptors could not be read, which a test
/// rules out; readers then know no kind.
pub(super) fn shapes() -> &'static Shapes {
    static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
        DescriptorPool::decode(FILE_DESCRIPTOR_SET)
            .ok()
            .and_then(|pool| Shapes::read(&pool))
            .unwrap_or_default()
    });
    &SHAPES
}

impl Shapes {
    fn read(pool: &DescriptorPool) -> Option<Self> {
        let marks = Marks {
            rule: pool.get_extension_by_name(&format!("{PACKAGE}.rule"))?,
            text: pool.get_extension_by_name(&format!("{PACKAGE}.text"))?,
            docs: pool
                .files()
                .filter(|file| file.package_name() == PACKAGE)
                .flat_map(|file| comments(&file))
                .collect(),
        };
        let messages = pool
            .all_messages()
            .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
            .map(|message| (message.full_name().to_owned(), marks.message(message)))
            .collect();
        Some(Self { messages })
    }
}

/// What the definitions say beside types: comments and custom options.
struct Marks {
    rule: ExtensionDescriptor,
    text: ExtensionDescriptor,
    docs: BTreeMap<(String, Vec<i32>), String>,
}

impl Marks {
    fn message(&self, message: MessageDescriptor) -> MessageShape {
        MessageShape {
            name: message
                .full_name()
                .strip_prefix(PACKAGE)
                .map_or("", |name| name.trim_start_matches('.'))
                .to_owned(),
            doc: self.doc(&message.parent_file(), message.path()),
            fields: message.fields().map(|field| self.field(field)).collect(),
            choices: message
                .oneofs()
                .filter(|oneof| !oneof.is_synthetic())
                .map(|oneof| oneof.fields().map(|field| field.json_name().to_owned()).collect())
                .collect(),
            descriptor: message,
        }
    }

    fn field(&self, field: FieldDescriptor) -> FieldShape {
        FieldShape {
            name: field.json_name().to_owned(),
            doc: self.doc(&field.parent_file(), field.path()),
            form: self.form(&field),
            list: field.cardinality() == Cardinality::Repeated && !field.is_map(),
            rule: self.rule(&field.options()),
            descriptor: field,
        }
    }

    fn form(&self, field: &FieldDescriptor) -> Form {
        let integer =
            |min: i64, max: u64| Form::Integer { min: i128::from(min), max: i128::from(max) };
        match field.kind() {
            _ if field.is_map() => Form::Map,
            Kind::Bool => Form::Bool,
            Kind::Double | Kind::Float => Form::Number,
            Kind::String | Kind::Bytes => Form::Text,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                integer(i64::from(i32::MIN), i32::MAX as u64)
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(i64::MIN, i64::MAX as u64),
            Kind::Uint32 | Kind::Fixed32 => integer(0, u64::from(u32::MAX)),
            Kind::Uint64 | Kind::Fixed64 => integer(0, u64::MAX),
            Kind::Enum(enumeration) => Form::Enum(self.texts(&enumeration)),
            Kind::Message(message) if message.full_name() == DURATION => Form::Duration,
            Kind::Message(message) => Form::Message(message.full_name().to_owned()),
        }
    }

    fn texts(&self, enumeration: &EnumDescriptor) -> Vec<EnumText> {
        enumeration
            .values()
            .filter_map(|value| {
                let options = value.options();
                let text = options.get_extension(&self.text).as_str()?.to_owned();
                let doc = self.doc(&value.parent_file(), value.path());
                (!text.is_empty()).then_some(EnumText { number: value.number(), text, doc })
            })
            .collect()
    }

    fn rule(&self, options: &DynamicMessage) -> Rule {
        options
            .get_extension(&self.rule)
            .as_message()
            .and_then(|rule| Rule::decode(rule.encode_to_vec().as_slice()).ok())
            .unwrap_or_default()
    }

    fn doc(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.docs.get(&(file.name().to_owned(), path.to_vec())).cloned().unwrap_or_default()
    }
}

/// Comments of a file, by path, as one paragraph each.
fn comments(file: &FileDescriptor) -> Vec<((String, Vec<i32>), String)> {
    let proto = file.file_descriptor_proto();
    proto
        .source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .filter_map(|location| {
            let lines = location.leading_comments.as_deref()?.lines().map(str::trim);
            let text = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            Some(((file.name().to_owned(), location.path.clone()), text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_field_and_value_is_documented() {
        let shapes = shapes();
        assert!(shapes.messages.len() > 40, "{}", shapes.messages.len());
        for message in shapes.messages.values() {
            assert!(!message.doc.is_empty(), "{} has no comment", message.name);
            for field in &message.fields {
                assert!(!field.doc.is_empty(), "{}.{}", message.name, field.name);
                if let Form::Enum(texts) = &field.form {
                    if message.name != "Rule" {
                        assert!(!texts.is_empty(), "{}.{}", message.name, field.name);
                    }
                    assert!(texts.iter().all(|text| !text.doc.is_empty()));
                }
            }
        }
    }

    #[test]
    fn rules_are_read() {
        let shape = shapes().of("BackendRef").unwrap();
        let weight = shape.field("weight").unwrap();
        assert_eq!((weight.rule.min, weight.rule.max), (Some(0), Some(10_000)));
        assert!(shape.field("name").unwrap().rule.required);
        assert_eq!(shapes().of("SplitBy").unwrap().choices.len(), 1);
    }
}
