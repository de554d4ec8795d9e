//! Queries with hostile values: whatever a value holds, the query keeps its shape and the string
//! holds exactly the value.

use super::{fill, tests::values};

const HOSTILE: &[&str] = &[
    "checkout",
    "",
    "\"} or vector(1) #",
    "'} or vector(1) #",
    "\\",
    "\\\"",
    "\\\\\"",
    "a\nb\r\tc",
    "`",
    "` or vector(1) or `",
    "#",
    "{{args.x}}",
    "{{window}}",
    "}}",
    "é 漢 🦀 \u{202e} \u{fffd} \u{0} \u{7f} \u{85}",
    ".*",
    "a|b",
    "(?i)x",
    "[a-z]+^$?{2}",
    "\\E\\d",
    "$1",
];

#[derive(Debug, PartialEq)]
enum Token {
    Code(String),
    Text(String),
}

/// Reads a query as Prometheus does: strings by their value, the rest as it stands.
fn read(query: &str) -> Option<Vec<Token>> {
    let (mut tokens, mut code) = (vec![], String::new());
    let mut chars = query.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' | '`' => {
                tokens.push(Token::Code(std::mem::take(&mut code)));
                tokens.push(Token::Text(unquote(&mut chars, c)?));
            }
            '#' => {
                chars.by_ref().find(|c| matches!(c, '\n' | '\r'));
            }
            c => code.push(c),
        }
    }
    tokens.push(Token::Code(code));
    Some(tokens)
}

fn unquote(chars: &mut std::str::Chars<'_>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\u{fffd}' => return None,
            '\n' if quote != '`' => return None,
            '\\' if quote != '`' => text.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '\\' => '\\',
                c if c == quote => c,
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                _ => return None,
            }),
            c => text.push(c),
        }
    }
}

/// What a regular expression without anything special matches; none where it has something.
fn matches_only(expression: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = expression.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(char::is_ascii_punctuation)?),
            c if ".+*?()|[]{}^$".contains(c) => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

fn holds_the_value(value: &str) {
    for quote in ['"', '\'', '`'] {
        for operator in ["=", "!=", "=~", "!~", "=~ ", "!~ # why not\n "] {
            let query = format!("up{{a{operator}{quote}{{{{ args.x }}}}{quote},b=\"1\"}} > 0");
            let result = fill(&query, &values(value));
            if quote == '`' && value.contains(['`', '\u{fffd}']) {
                let faults = result.expect_err("a backtick cannot be escaped");
                assert!(
                    faults.concat().contains("quote the string with \""),
                    "{faults:?}"
                );
                continue;
            }
            let text = result.expect("fills in");
            let tokens = read(&text).unwrap_or_else(|| unreachable!("{value:?}: broken: {text}"));
            let empty = read(&query.replace("{{ args.x }}", "")).expect("reads");
            assert_eq!(tokens.len(), empty.len(), "{value:?}: {text}");
            for (i, (token, empty)) in tokens.iter().zip(&empty).enumerate() {
                match token {
                    Token::Text(held) if i == 1 && operator.contains('~') => {
                        assert_eq!(matches_only(held).as_deref(), Some(value), "{text}");
                    }
                    Token::Text(held) if i == 1 => assert_eq!(held, value, "{text}"),
                    Token::Text(_) | Token::Code(_) => assert_eq!(token, empty, "{value:?}"),
                }
            }
        }
    }
}

#[test]
fn no_value_leaves_its_string() {
    HOSTILE.iter().copied().for_each(holds_the_value);
}

#[test]
fn no_random_value_leaves_its_string() {
    let alphabet: Vec<char> = "\"'`\\#{}()=~!|.*+-[]$^ \n\r\t\0aé\u{fffd}xuU0nargs"
        .chars()
        .collect();
    let mut state: u64 = 42;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("fits") % below
    };
    for _ in 0..3000 {
        let value: String = (0..random(12))
            .map(|_| alphabet[random(alphabet.len())])
            .collect();
        holds_the_value(&value);
    }
}
