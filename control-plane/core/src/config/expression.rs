//! What our engine takes in an expression and RE2 does not, or takes otherwise. One such route would
//! make every Envoy refuse all routes.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassSetItem, Flag, Flags, FlagsItemKind, HexLiteralKind, Literal,
    LiteralKind, RepetitionKind, RepetitionRange, Visitor, visit,
};

/// Most repetitions that RE2 unrolls.
const MOST_REPETITIONS: u32 = 1000;

/// The first thing that only our engine knows. `None` also for what is no expression at all.
pub(super) fn beyond_re2(text: &str) -> Option<&'static str> {
    let ast = Parser::new().parse(text).ok()?;
    visit(&ast, Finder).err()
}

struct Finder;

impl Visitor for Finder {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(set) => flags(&set.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), flags),
            Ast::Repetition(repetition) => match &repetition.op.kind {
                RepetitionKind::Range(range) if most(range) > MOST_REPETITIONS => {
                    Err("more than 1000 repetitions")
                }
                _ => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("a word boundary of a kind of its own"),
            },
            Ast::Literal(one) => literal(one),
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Bracketed(_) => Err("a class inside of a class"),
            ClassSetItem::Literal(one) => literal(one),
            ClassSetItem::Range(range) => literal(&range.start).and_then(|()| literal(&range.end)),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(
        &mut self,
        _: &regex_syntax::ast::ClassSetBinaryOp,
    ) -> Result<(), Self::Err> {
        Err("an operation between classes")
    }
}

fn flags(flags: &Flags) -> Result<(), &'static str> {
    let ours = |item: &FlagsItemKind| {
        matches!(item, FlagsItemKind::Flag(Flag::IgnoreWhitespace | Flag::Unicode | Flag::CRLF))
    };
    if flags.items.iter().any(|item| ours(&item.kind)) {
        return Err("a flag other than i, m, s and U");
    }
    Ok(())
}

fn literal(literal: &Literal) -> Result<(), &'static str> {
    use HexLiteralKind::{UnicodeLong, UnicodeShort};
    match literal.kind {
        LiteralKind::HexFixed(UnicodeShort | UnicodeLong)
        | LiteralKind::HexBrace(UnicodeShort | UnicodeLong) => {
            Err("a \\u escape; \\x{…} is known everywhere")
        }
        _ => Ok(()),
    }
}

fn most(range: &RepetitionRange) -> u32 {
    match *range {
        RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) => n,
        RepetitionRange::Bounded(_, most) => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_engines_know_passes() {
        for good in [
            "/v[0-9]+/.*",
            "(?i)abc",
            r"\d+\.\w*",
            "(a|b){1,1000}",
            r"[^/]+",
            r"\x{e9}",
            r"\bfoo\b",
            "(?P<name>a)",
            r"[[:alpha:]]",
            r"\p{Greek}",
        ] {
            assert_eq!(beyond_re2(good), None, "{good}");
        }
    }

    #[test]
    fn what_only_ours_knows_is_named() {
        for bad in [
            "(?x)/a # note",
            "(?x:a b)",
            "[a-z]{1,2000}",
            "a{1001}",
            "[a-z&&[^b]]",
            "[a[b]]",
            r"\u{e9}",
            r"\u00e9",
            r"\b{start}a",
            "(?-u)a",
        ] {
            assert!(beyond_re2(bad).is_some(), "{bad}");
        }
    }
}
