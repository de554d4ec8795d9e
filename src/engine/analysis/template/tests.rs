//! Which placeholders may stand where, and what is said about the others.

use super::*;

pub(super) fn values(x: &str) -> Values {
    let value = |type_, text: Option<&str>| Value {
        type_,
        text: text.map(str::to_owned),
    };
    Values {
        args: [
            ("x".to_owned(), value(Type::Text, Some(x))),
            ("d".to_owned(), value(Type::Duration, Some("5m"))),
            ("n".to_owned(), value(Type::Number, Some("-0.5"))),
            ("none".to_owned(), value(Type::Text, None)),
        ]
        .into(),
        window: Some(Duration::from_secs(90)),
        canary: "c4n4ry".into(),
        stable: "st4ble".into(),
        namespace: "shop".into(),
    }
}

fn filled(query: &str) -> Result<String, Vec<String>> {
    fill(query, &values("checkout"))
}

#[test]
fn what_stands_where() {
    for (query, wanted) in [
        ("up[{{window}}]", "up[1m30s]"),
        ("up[{{ window }}]", "up[1m30s]"),
        ("up[{{args.d}}] > {{args.n}}", "up[5m] > -0.5"),
        (
            "up{w=\"{{window}}\",n='{{args.n}}'}",
            "up{w=\"1m30s\",n='-0.5'}",
        ),
        ("up{n=~\"{{args.n}}\"}", "up{n=~\"\\\\-0\\\\.5\"}"),
        ("up{h=\"{{canary.hash}}\"}", "up{h=\"c4n4ry\"}"),
        ("up{h!=`{{stable.hash}}`}", "up{h!=`st4ble`}"),
        ("up{h!=`a\n{{stable.hash}}`}", "up{h!=`a\nst4ble`}"),
        (
            "up{n='{{namespace}}',a=\"{{args.x}}\"}",
            "up{n='shop',a=\"checkout\"}",
        ),
        ("up{a=~\"x{{{args.n}}}\"}", "up{a=~\"x{\\\\-0\\\\.5}\"}"),
        ("up{a=\"\\\\{{args.x}}\"}", "up{a=\"\\\\checkout\"}"),
        ("up{a=\"\\x7b{{{args.x}}\"}", "up{a=\"\\x7b{checkout\"}"),
        ("up # it's \"odd\n + {{args.n}}", "up # it's \"odd\n + -0.5"),
        ("up == 1 or up{a=\"}}\"}", "up == 1 or up{a=\"}}\"}"),
        ("", ""),
    ] {
        assert_eq!(filled(query).as_deref(), Ok(wanted), "{query}");
    }
}

#[test]
fn what_is_refused_says_what_would_be_right() {
    for (query, part) in [
        (
            "{{foo}}",
            "{{foo}}: unknown placeholder; there are {{args.NAME}}, {{window}}",
        ),
        ("up{a=\"{{canary}}\"}", "{{canary}}: unknown placeholder"),
        ("up{a=\"{{}}\"}", "{{}}: unknown placeholder"),
        (
            "up{a=\"{{args.y}}\"}",
            "{{args.y}}: no such argument; the template declares d, n, none, x",
        ),
        (
            "up{a=\"{{args.none}}\"}",
            "{{args.none}}: the argument has no value",
        ),
        (
            "{{args.x}}",
            "only inside a quoted PromQL string; outside of one the argument needs type",
        ),
        (
            "up{a={{args.x}}}",
            "{{args.x}}: a string stands only inside",
        ),
        (
            "{{canary.hash}}",
            "{{canary.hash}}: stands only inside a quoted",
        ),
        ("up{a={{stable.hash}}}", "stands only inside a quoted"),
        ("{{namespace}}", "stands only inside a quoted"),
        (
            "up # {{args.d}}",
            "{{args.d}}: a placeholder cannot stand in a comment",
        ),
        (
            "up # {{window}}\n",
            "{{window}}: a placeholder cannot stand in a comment",
        ),
        ("up{a=\"{{\"}", "a lone {{, without }}: there are"),
        ("up{{", "a lone {{"),
        ("up{a=\"{{args.x\"}}", "a lone {{"),
        ("up{a=\"{{args.x}\"}", "a lone {{"),
        ("up{a=\"\\{{args.x}}\"}", "cannot complete an escape"),
        ("up{a=\"\\x{{args.x}}\"}", "cannot complete an escape"),
        ("up{a=\"\\x4{{args.x}}\"}", "cannot complete an escape"),
        ("up{a=\"\\u004{{args.x}}\"}", "cannot complete an escape"),
        (
            "up{a=\"\\U0000004{{args.x}}\"}",
            "cannot complete an escape",
        ),
        ("up{a='\\12{{args.x}}'}", "cannot complete an escape"),
        (
            "up{a=\"b",
            "a string that opens with \" is not closed on its line",
        ),
        (
            "up{a='b\n'}",
            "a string that opens with ' is not closed on its line",
        ),
        ("up{a=`b", "a string that opens with ` is not closed"),
        (
            "up\\\"{{args.x}}\"",
            "a backslash stands only inside a quoted string",
        ),
    ] {
        let faults = filled(query).expect_err(query).join("; ");
        assert!(faults.contains(part), "{query}: {faults}");
    }
    let none = Values::default();
    let faults = fill("rate(up[{{window}}])", &none).expect_err("no window");
    assert_eq!(
        faults,
        ["{{window}}: the metric has no window; give it one, such as window: 30s"]
    );
    let faults = fill("up{a='{{args.a}}'}", &none).expect_err("no args");
    assert!(
        faults
            .concat()
            .contains("declares none: add it under spec.args"),
        "{faults:?}"
    );
    let all = filled("{{a}} + {{b}} + {{a}}").expect_err("unknown");
    assert_eq!(all.len(), 2, "each fault once: {all:?}");
}

#[test]
fn durations_and_numbers_are_nothing_else() {
    for good in ["5m", "1h30m", "100ms", "1y2w3d", "0s"] {
        assert_eq!(Type::Duration.accepts(good), Ok(()), "{good}");
    }
    for wrong in [
        "", "5", "m", "5m ", "-5m", "5M", "5m]", "1.5h", "5m1", "5us", "٥m",
    ] {
        assert!(Type::Duration.accepts(wrong).is_err(), "{wrong}");
    }
    for good in ["0", "-0.5", "1e3", "+2", "5.", ".5", "1E-7"] {
        assert_eq!(Type::Number.accepts(good), Ok(()), "{good}");
    }
    for wrong in [
        "", "NaN", "Inf", "-inf", "infinity", "0x10", "1_000", "1e999", "1 ", "e", "1) or (1",
        "--1",
    ] {
        assert!(Type::Number.accepts(wrong).is_err(), "{wrong}");
    }
    let mut values = values("");
    for (name, type_) in [("d", Type::Duration), ("n", Type::Number)] {
        let text = Some("1m] or vector(1)".to_owned());
        values.args.insert(name.into(), Value { type_, text });
    }
    for query in ["{{args.d}}", "{{args.n}}", "up{a=\"{{args.n}}\"}"] {
        assert!(
            fill(query, &values).is_err(),
            "{query}: filling in trusts nobody"
        );
    }
}

#[test]
fn the_window_is_written_as_promql_writes_it() {
    for (millis, wanted) in [
        (30_000, "30s"),
        (90_000, "1m30s"),
        (1500, "1s500ms"),
        (86_400_000 * 90, "90d"),
        (86_400_000 + 3_600_000, "1d1h"),
    ] {
        assert_eq!(duration(Duration::from_millis(millis)), wanted);
    }
}
