//! Single values: text, numbers, words of enums, durations, each with the bounds of its field.

use prost_reflect::{DynamicMessage, Kind, Value};

use super::decode::Decoder;
use super::format::{self, BadText, quoted};
use super::shape::{EnumText, FieldShape};
use super::suggest::suggest;
use super::yaml::{Content, Node};

impl Decoder<'_> {
    pub(super) fn text<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.content {
            Content::Scalar { text, plain } if !plain || is_plain_text(text) => Some(text),
            Content::Scalar { text, .. } => {
                self.wrong_type(path, node, "text", &format!("in quotes: \"{text}\""));
                None
            }
            _ => {
                self.wrong_type(path, node, "text", "");
                None
            }
        }
    }

    pub(super) fn good_text<T>(&mut self, checked: Result<T, BadText>, path: &str) -> Option<T> {
        checked.map_err(|bad| self.fault(path, &bad.message, bad.hint)).ok()
    }

    pub(super) fn bool(&mut self, node: &Node, path: &str) -> Option<Value> {
        match &node.content {
            Content::Scalar { text, plain: true } if text == "true" => Some(Value::Bool(true)),
            Content::Scalar { text, plain: true } if text == "false" => Some(Value::Bool(false)),
            _ => {
                self.wrong_type(path, node, "true or false", "");
                None
            }
        }
    }

    pub(super) fn integer(
        &mut self,
        field: &FieldShape,
        (min, max): (i128, i128),
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let number = match &node.content {
            Content::Scalar { text, plain: true } => text.parse::<i128>().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(path, node, "a whole number", "write digits, without quotes");
            return None;
        };
        let min = field.rule.min.map_or(min, |bound| min.max(i128::from(bound)));
        let max = field.rule.max.map_or(max, |bound| max.min(i128::from(bound)));
        if number < min || number > max {
            self.fault(path, &format!("{number} is out of range"), &format!("from {min} to {max}"));
            return None;
        }
        Some(match field.descriptor.kind() {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            _ => Value::U64(number as u64),
        })
    }

    pub(super) fn number(&mut self, field: &FieldShape, node: &Node, path: &str) -> Option<Value> {
        let number = match &node.content {
            Content::Scalar { text, plain: true } if is_decimal(text) => text.parse::<f64>().ok(),
            _ => None,
        };
        let Some(number) = number.filter(|number| number.is_finite()) else {
            self.wrong_type(path, node, "a number", "write digits, without quotes and units");
            return None;
        };
        let min = field.rule.min.map_or(f64::MIN, |bound| bound as f64);
        let max = field.rule.max.map_or(f64::MAX, |bound| bound as f64);
        if number < min || number > max {
            self.fault(path, &format!("{number} is out of range"), &format!("from {min} to {max}"));
            return None;
        }
        Some(match field.descriptor.kind() {
            Kind::Float => Value::F32(number as f32),
            _ => Value::F64(number),
        })
    }

    pub(super) fn enumeration(
        &mut self,
        texts: &[EnumText],
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let names = || texts.iter().map(|text| text.text.as_str());
        let Some(text) = node.text() else {
            let all = names().collect::<Vec<_>>().join(", ");
            self.wrong_type(path, node, "a word", &format!("one of {all}"));
            return None;
        };
        let found = texts.iter().find(|known| known.text == text);
        if found.is_none() {
            let hint = suggest(text, names(), "values");
            self.fault(path, &format!("{} is not a value of this field", quoted(text)), &hint);
        }
        found.map(|known| Value::EnumNumber(known.number))
    }

    pub(super) fn duration(
        &mut self,
        field: &FieldShape,
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let Some(text) = node.text() else {
            self.wrong_type(path, node, "a duration", "such as 30s, 500ms or 1h30m");
            return None;
        };
        let time = self.good_text(format::duration(text), path)?;
        let millis = time.as_millis().cast_signed();
        let (min, max) = (field.rule.min.unwrap_or(0), field.rule.max.unwrap_or(i64::MAX));
        if millis < i128::from(min) || millis > i128::from(max) {
            let print = |millis: i64| {
                format::print_duration(millis / 1000, (millis % 1000) as i32 * 1_000_000)
            };
            let hint = format!("from {} to {}", print(min), print(max));
            self.fault(path, &format!("{text} is out of range"), &hint);
            return None;
        }
        let Kind::Message(descriptor) = field.descriptor.kind() else { return None };
        let mut message = DynamicMessage::new(descriptor);
        message.set_field_by_number(1, Value::I64(time.as_secs().cast_signed()));
        message.set_field_by_number(2, Value::I32(time.subsec_nanos().cast_signed()));
        Some(Value::Message(message))
    }
}

/// Whether YAML's core schema reads a word without quotes as text.
pub(super) fn is_plain_text(text: &str) -> bool {
    let bool_or_null = matches!(
        text,
        "" | "~"
            | "null"
            | "Null"
            | "NULL"
            | "true"
            | "True"
            | "TRUE"
            | "false"
            | "False"
            | "FALSE"
    );
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let special =
        matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let radix = |prefix, radix| {
        text.strip_prefix(prefix).is_some_and(|digits: &str| {
            !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))
        })
    };
    !(bool_or_null || special || is_decimal(text) || radix("0o", 8) || radix("0x", 16))
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` (YAML 1.2, 10.3.2).
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good_exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && good_exponent
}
