use super::*;

fn parse(text: &str) -> Result<SysConfig, SyntaxError> {
    let known = |key: &str| matches!(key, "data_dir" | "port" | "list");
    SysConfig::parse(Path::new("sys.config"), text, known)
}

/// Returns the value of a key as text, and its source.
fn value(text: &str, key: &str) -> Option<(String, String)> {
    let given = parse(text).expect(text).get(key)?;
    let value = given
        .list()
        .expect("few")
        .iter()
        .map(|one| one.as_text().map_or("a number".into(), str::to_owned))
        .collect::<Vec<_>>();
    Some((value.join("|"), given.source().to_string()))
}

#[test]
fn the_example_in_the_convention_is_read() {
    let text = r#"[{hecate, [{data_dir, "~/.hecate/hecate-daemon"}]}]."#;
    let expected = ("~/.hecate/hecate-daemon".to_owned(), "sys.config line 1".to_owned());
    assert_eq!(value(text, "data_dir"), Some(expected));
    assert_eq!(value(text, "port"), None);
}

#[test]
fn text_may_be_written_in_each_way_of_erlang() {
    for term in [
        r#""a b""#,
        r#""a" " b""#,
        r#"'a b'"#,
        r#"<<"a b">>"#,
        r#"<<"a b"/utf8>>"#,
        "\"a\" % a comment \"\n \" b\"",
        r#""a\sb""#,
    ] {
        let text = format!("%% -*- erlang -*-\n[\n {{hecate, [\n {{data_dir, {term}}}]}}\n].\n");
        assert_eq!(
            value(&text, "data_dir").expect("there"),
            ("a b".to_owned(), "sys.config line 4".to_owned()),
            "{term}"
        );
    }
}

#[test]
fn lists_and_numbers_are_read() {
    let text = "[{hecate, [{list, [a, \"b\", <<\"c\">>, 'd@e']}, {port, 16#ff}]}].";
    assert_eq!(value(text, "list").expect("there").0, "a|b|c|d@e");
    let number = parse(text).expect("valid").get("port").expect("there").number(0, 1000);
    assert_eq!(number.expect("a number"), 255);
    assert_eq!(value("[{hecate, [{list, []}]}].", "list").expect("there").0, "");
}

#[test]
fn other_applications_and_unknown_keys_are_skipped() {
    let text = r##"[
        {kernel, [{logger, [{handler, default, logger_std_h, #{level => info, f => fun m:f/1}}]}, {x, -1.5e3}]},
        {other, [{k, <<1:8, 2/little, "}]">>}, {[{"]", $]}], #{}, []} | tail]},
        {hecate, [{mine, #{a => [1, {2}]}}, {data_dir, "/x/y"}, {'Weird key', fun() -> ok end}]},
        {last, []}
    ]."##;
    let config = parse(text).expect("valid");
    assert_eq!(value(text, "data_dir").expect("there").0, "/x/y");
    let unknown: Vec<String> = config.unknown().map(|(key, source)| format!("{key} at {source}")).collect();
    assert_eq!(unknown, ["mine at sys.config line 4", "Weird key at sys.config line 4"]);
}

#[test]
fn empty_lists_are_accepted() {
    for text in ["[].", "[{hecate, []}].", "[{kernel, []}].", "% only\n[ ] ."] {
        assert_eq!(value(text, "data_dir"), None, "{text}");
    }
}

#[test]
fn errors_name_the_line_and_what_was_expected() {
    let table = [
        ("", 1, "`[`", "the end of the file"),
        ("\n\nhecate", 3, "`[`", "`hecate`"),
        ("[", 1, "{Application", "the end of the file"),
        ("[\"other.config\"].", 1, "inclusion", "`\"other.config\"`"),
        ("[{hecate, []}]", 1, "`.` at the end", "the end of the file"),
        ("[{hecate, []}].\n[].", 2, "nothing after", "`[`"),
        ("[{hecate, []},\n].", 2, "{Application", "`]`"),
        ("[{hecate, #{}}].", 1, "list of the settings", "`#`"),
        ("[{\"hecate\", []}].", 1, "name of an application", "`\"hecate\"`"),
        ("[{hecate, [\n{data_dir}]}].", 2, "`,`", "`}`"),
        ("[{hecate, [\n{data_dir, {x}}]}].", 2, "a string, an atom", "`{`"),
        ("[{hecate, [\n{data_dir, -1}]}].", 2, "a string, an atom", "`-`"),
        ("[{hecate, [\n{port, 99999999999999999999999}]}].", 2, "a string, an atom", "`99999999999999999999`"),
        ("[{hecate, [{data_dir, \"a\"},\n{data_dir, \"b\"}]}].", 2, "each setting once", "a second `data_dir`"),
        ("[{hecate, []},\n{hecate, []}].", 2, "`hecate` once", "a second `hecate`"),
        ("[{kernel, [(]}].", 1, "`)`", "`]`"),
        ("[{kernel, [}].", 1, "`]`", "`}`"),
        ("[{kernel, [", 1, "`]`", "the end of the file"),
        ("[{kernel, <<1}].", 1, "`>>`", "`}`"),
        ("[{hecate, [{data_dir, \"open\n}]}].", 1, "Erlang terms", "no closing quotation"),
        ("[{hecate, [{data_dir, \u{2603}}]}].", 1, "Erlang terms", ""),
    ];
    for (text, line, expected, found) in table {
        let Err(error) = parse(text) else {
            panic!("accepted: {text}");
        };
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.expected.contains(expected), "{text}: {error}");
        assert!(error.found.to_lowercase().contains(&found.to_lowercase()), "{text}: {error}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |application: &str, depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        parse(&format!("[{{{application}, {open}{close}}}].")).map(|_| ())
    };
    // The tuple itself is one level.
    nested("kernel", limits::SYS_CONFIG_DEPTH - 1).expect("as deep as allowed");
    let error = nested("kernel", limits::SYS_CONFIG_DEPTH).expect_err("one deeper");
    assert_eq!(error.found, "a term nested too deeply");

    let ours = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        parse(&format!("[{{hecate, [{{list, {open}{close}}}]}}].")).map(|_| ())
    };
    ours(limits::SYS_CONFIG_DEPTH).expect("as deep as allowed");
    assert_eq!(ours(limits::SYS_CONFIG_DEPTH + 1).expect_err("one deeper").found, "a term nested too deeply");
    assert!(ours(100_000).is_err(), "without a stack overflow");
}

proptest::proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "[\\[\\]{}()<>,.#\"'$\\\\%~ \\na-z0-9_@/:|=+-]{0,80}") {
        let _ = parse(&text);
        let _ = parse(&format!("[{{hecate, [{{list, {text}"));
        let _ = parse(&format!("[{{kernel, {text}"));
    }
}
