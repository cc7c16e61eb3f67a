//! Settings: where they come from, which comes first, and what is said when one is wrong.

use std::path::Path;
use std::process::Output;

use crate::process::{command, registry, texts};

fn in_empty_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The effective value of a key, as `config show` prints it, and where it came from.
fn shown(output: &Output, key: &str) -> (String, String) {
    let (text, errors) = texts(output);
    assert!(output.status.success(), "{errors}");
    let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_else(|| panic!("no {key} in\n{text}"));
    let (value, origin) = line.split_once(" = ").unwrap().1.rsplit_once(" # ").unwrap();
    (value.to_owned(), origin.to_owned())
}

/// What is said of a configuration that is wrong; the exit code is 2.
fn complaint(dir: &Path, file: &str, args: &[&str]) -> String {
    std::fs::write(dir.join("registry.toml"), file).unwrap();
    let output = registry(dir, &[&["--config", "registry.toml", "config", "show"], args].concat());
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    errors
}

#[test]
fn the_example_file_sets_everything_to_its_default() {
    let dir = in_empty_dir();
    let (example, _) = texts(&registry(dir.path(), &["config", "example"]));
    std::fs::write(dir.path().join("registry.toml"), &example).unwrap();
    let values = |args: &[&str]| {
        let output = registry(dir.path(), args);
        let (text, errors) = texts(&output);
        assert!(output.status.success(), "{errors}");
        text.lines().map(|line| line.split_once(" # ").map_or(line, |(value, _)| value).to_owned()).collect::<Vec<_>>()
    };
    let defaults = values(&["config", "show"]);
    assert_eq!(values(&["--config", "registry.toml", "config", "show"]), defaults);
    // Every line of the one is a setting of the other, so neither forgets one.
    let keys = |text: &str| text.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count();
    assert_eq!(keys(&example), keys(&defaults.join("\n")));
    assert!(!dir.path().join("data").exists(), "looking at the configuration makes nothing");
}

#[test]
fn a_flag_counts_before_a_variable_before_the_file_before_the_default() {
    let dir = in_empty_dir();
    std::fs::write(dir.path().join("registry.toml"), "shutdown_timeout = \"1s\"\n[gc]\ninterval = \"2h\"\n").unwrap();
    let show = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = command("registry");
        command.current_dir(dir.path()).args(["config", "show"]).args(args).envs(variables.iter().copied());
        command.output().unwrap()
    };
    let file = ["--config", "registry.toml"];
    let flag = ["--config", "registry.toml", "--gc-interval", "4h"];
    let variable = [("REGISTRY_GC_INTERVAL", "3h")];
    assert_eq!(shown(&show(&[], &[]), "interval"), ("\"1h\"".into(), "default".into()));
    assert_eq!(shown(&show(&file, &[]), "interval"), ("\"2h\"".into(), "registry.toml:3".into()));
    assert_eq!(shown(&show(&file, &variable), "interval"), ("\"3h\"".into(), "environment variable REGISTRY_GC_INTERVAL".into()));
    assert_eq!(shown(&show(&flag, &variable), "interval"), ("\"4h\"".into(), "flag --gc-interval".into()));
    assert_eq!(shown(&show(&[], &[("REGISTRY_CONFIG", "registry.toml")]), "interval").0, "\"2h\"");
    assert_eq!(shown(&show(&file, &[("REGISTRY_GC_INTERVAL", "")]), "interval").0, "\"2h\"", "an empty variable says nothing");
    assert_eq!(shown(&show(&[], &[("RUST_LOG", "debug")]), "log").0, "\"debug\"");
    assert_eq!(shown(&show(&[], &[("RUST_LOG", "debug"), ("REGISTRY_LOG", "warn")]), "log").0, "\"warn\"");
}

#[test]
fn every_setting_can_be_given_in_all_three_ways() {
    let dir = in_empty_dir();
    let (example, _) = texts(&registry(dir.path(), &["config", "example"]));
    let mut table = String::new();
    let mut count = 0;
    std::fs::write(dir.path().join("ca.pem"), "").unwrap();
    for line in example.lines().take_while(|line| *line != "[[zone]]") {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = format!("{name}.");
        }
        let Some((name, default)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        let key = format!("{table}{name}");
        // Another value than the default, of its kind.
        let value = match (name, default) {
            ("url", _) => "sqlite:other.db",
            ("storage_preference", _) => "remote",
            (_, "\"preference\"") => "measured",
            ("listen" | "admin", _) => "127.0.0.1:1234",
            ("data", _) => "elsewhere",
            ("log", _) => "warn",
            ("schema", _) => "other",
            // One without the other makes no sense.
            ("certificate" | "key", "\"\"") if table == "tls." => continue,
            ("ca_file", _) => "ca.pem",
            ("public_url", _) => "https://registry.example.com",
            ("background_share", _) => "0.25",
            ("users" | "token_keys" | "audit" | "service", _) => "elsewhere",
            (_, "true" | "false") => "true",
            (_, "\"text\"") => "json",
            (_, "\"power-loss\"") => "process-crash",
            (_, text) if text.contains("iB") => "7MiB",
            (_, text) if text.starts_with('"') => "7m",
            _ => "7",
        };
        let quoted = match value {
            "true" | "7" => value.to_owned(),
            _ if default.starts_with('[') => format!("[{value:?}]"),
            _ => format!("{value:?}"),
        };
        let text = if table.is_empty() {
            format!("{name} = {quoted}\n")
        } else {
            format!("[{}]\n{name} = {quoted}\n", table.trim_end_matches('.'))
        };
        std::fs::write(dir.path().join("one.toml"), text).unwrap();
        let flag = format!("--{}={value}", key.replace(['.', '_'], "-"));
        let variable = format!("REGISTRY_{}", key.replace('.', "_").to_uppercase());
        let run = |args: &[&str], variable: Option<&str>| {
            let mut command = command("registry");
            command.current_dir(dir.path()).args(["config", "show"]).args(args).envs(variable.map(|name| (name, value)));
            let output = command.output().unwrap();
            let (text, errors) = texts(&output);
            assert!(output.status.success(), "{key}: {errors}");
            let section =
                if table.is_empty() { text.as_str() } else { text.split_once(&format!("[{}]\n", table.trim_end_matches('.'))).unwrap().1 };
            section.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap().to_owned()
        };
        assert_eq!(run(&["--config", "one.toml"], None), format!("{quoted} # one.toml:{}", if table.is_empty() { 1 } else { 2 }));
        assert_eq!(run(&[], Some(&variable)), format!("{quoted} # environment variable {variable}"));
        assert_eq!(run(&[&flag], None), format!("{quoted} # flag {}", flag.split_once('=').unwrap().0));
        count += 1;
    }
    assert!(count >= 20, "{count} settings were found in\n{example}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    let dir = in_empty_dir();
    let text = complaint(dir.path(), "listen = \"127.0.0.1:0\"\n\n[gc]\nintervall = \"1h\"\n", &[]);
    assert!(text.contains("registry.toml:4: gc.intervall: there is no such setting; did you mean gc.interval?"), "{text}");
    let text = complaint(dir.path(), "[storage]\ndriver = \"s3\"\n", &[]);
    assert!(text.contains("registry.toml:1: storage: there is no such setting"), "{text}");
    let text = complaint(dir.path(), "[[zone]]\nname = \"a\"\npaht = \"b\"\n", &[]);
    assert!(text.contains("registry.toml:3: zone.paht: there is no such setting; did you mean path?"), "{text}");
}

#[test]
fn a_wrong_value_is_named_with_where_it_stands_and_what_is_wanted() {
    let dir = in_empty_dir();
    let cases = [
        ("[gc]\ngrace = \"soon\"\n", "registry.toml:2: gc.grace: \"soon\" is not a number with ms, s, m, h, d or w"),
        ("read_only = \"yes\"\n", "registry.toml:1: read_only: must be true or false, without quotes"),
        ("listen = 5000\n", "registry.toml:1: listen: must be a text in quotes"),
        ("listen = \"5000\"\n", "registry.toml:1: listen: \"5000\" is not an address and a port"),
        ("log_format = \"xml\"\n", "registry.toml:1: log_format: \"xml\" is not one of text, json"),
        ("max_manifest_size = \"4 parsecs\"\n", "registry.toml:1: max_manifest_size: \"4 parsecs\" is not a number with B, KiB"),
        ("worker_threads = -1\n", "registry.toml:1: worker_threads: \"-1\" is not a whole number"),
        ("log = \"info,=,\"\n", "registry.toml:1: log: "),
        ("listen = \"127.0.0.1:0\nadmin = 1\n", "registry.toml:1: not valid TOML"),
        ("[metadata]\nurl = \"mysql://u:secret@h/d\"\n", "registry.toml:2: metadata.url: must be sqlite:PATH or postgres://"),
        ("zone = \"here\"\n", "registry.toml:1: zone: a zone begins with [[zone]]"),
        ("[[zone]]\nname = \"Über\"\n", "registry.toml:2: zone.name: must be 1 to 64 of a-z"),
        ("[[zone]]\ndurability = \"none\"\n", "registry.toml:2: zone.durability: must be \"power-loss\" or \"process-crash\""),
        ("[[zone]]\nverify_reads = \"stale(0)\"\n", "registry.toml:2: zone.verify_reads: "),
    ];
    for (file, wanted) in cases {
        let text = complaint(dir.path(), file, &[]);
        assert!(text.contains(wanted) && !text.contains("secret"), "{file:?}: {text}");
    }
    let text = complaint(dir.path(), "", &["--gc-grace", "soon"]);
    assert!(text.contains("flag --gc-grace: gc.grace: \"soon\""), "{text}");
    let text = complaint(dir.path(), "", &["--zone", "here"]);
    assert!(text.contains("flag --zone: zone: part 1 is not key=value"), "{text}");
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of() {
    let dir = in_empty_dir();
    let variables =
        [("REGISTRY_LISTN", "127.0.0.1:0"), ("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000"), ("REGISTRY_SERVICE_HOST", "10.0.0.1")];
    let output = command("registry").current_dir(dir.path()).arg("validate").envs(variables).output().unwrap();
    let (_, errors) = texts(&output);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("environment variable REGISTRY_LISTN: there is no such setting; did you mean REGISTRY_LISTEN?"), "{errors}");
    assert!(!errors.contains("10.0.0.1") && !errors.contains("REGISTRY_PORT") && !errors.contains("REGISTRY_SERVICE"), "{errors}");
}

#[test]
fn a_type_of_zone_that_there_is_not_is_refused() {
    let dir = in_empty_dir();
    let text = complaint(dir.path(), "[[zone]]\nname = \"a\"\ntype = \"azure\"\ncontainer = \"b\"\n", &[]);
    let expected =
        "registry.toml:3: zone.type: there are no zones of type \"azure\"; the types are \"filesystem\", \"swift\", \"s3\", \"gcs\"";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn zones_in_s3_and_at_google_have_keys_of_their_own_and_their_secrets_are_shown_to_nobody() {
    let dir = in_empty_dir();
    std::fs::write(dir.path().join("secret"), "in a file\n").unwrap();
    let show = |zone: &str| {
        std::fs::write(dir.path().join("registry.toml"), format!("[[zone]]\nname = \"far\"\n{zone}")).unwrap();
        let mut command = command("registry");
        command.current_dir(dir.path()).args(["--config", "registry.toml", "config", "show"]).env("S3_SECRET", "of the environment");
        let (text, errors) = texts(&command.output().unwrap());
        assert!(!text.contains("of the environment") && !text.contains("in a file"), "{text}");
        (text.split_once("[[zone]]").map(|(_, zone)| zone.to_owned()).unwrap_or_default(), errors)
    };
    let (text, errors) = show(
        "type = \"s3\"\nbucket = \"quay\"\nendpoint = \"https://rgw.example\"\naccess_key = \"AKIA\"\nsecret_key = \"${S3_SECRET}\"\nsse = \"AES256\"\n",
    );
    assert!(
        text.contains("bucket = \"quay\"") && text.contains("path_style = true") && text.contains("sse = \"AES256\""),
        "{text}{errors}"
    );
    let (text, errors) =
        show("type = \"s3\"\nbucket = \"quay\"\nregion = \"eu-west-1\"\naccess_key = \"AKIA\"\nsecret_key_file = \"secret\"\n");
    assert!(text.contains("path_style = false") && text.contains("region = \"eu-west-1\""), "{text}{errors}");
    let (text, errors) = show("type = \"gcs\"\nbucket = \"quay\"\naccess_key = \"GOOG\"\nsecret_key_file = \"secret\"\n");
    assert!(text.contains("access_key = \"GOOG\""), "{text}{errors}");
    for (zone, expected) in [
        ("type = \"s3\"\n", "zone: bucket is missing: it is where blobs are stored"),
        ("type = \"s3\"\nbucket = \"quay\"\naccess_key = \"AKIA\"\n", "zone: secret_key is missing: an access key has one"),
        (
            "type = \"s3\"\nbucket = \"quay\"\nsse = \"rot13\"\n",
            "zone: unknown variant `rot13`, expected one of `AES256`, `aws:kms`, `aws:kms:dsse`",
        ),
        (
            "type = \"s3\"\nbucket = \"quay\"\nendpoint = \"rgw.example\"\n",
            "zone: endpoint = \"rgw.example\": it begins with http:// or https://",
        ),
        ("type = \"s3\"\nbukket = \"quay\"\n", "zone.bukket: there is no such setting; did you mean bucket?"),
        (
            "type = \"gcs\"\nbucket = \"quay\"\nservice_account = \"/nothing.json\"\n",
            "zone: service_account = \"/nothing.json\": No such file",
        ),
    ] {
        let (_, errors) = show(zone);
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn a_zone_in_swift_has_keys_of_its_own_and_its_secrets_are_shown_to_nobody() {
    let dir = in_empty_dir();
    let zone = "[[zone]]\nname = \"leo\"\ntype = \"swift\"\nauth_url = \"https://keystone.example:5000/v3\"\ncontainer = \"quay\"\nusername = \"admin\"\n";
    std::fs::write(dir.path().join("password"), "in a file\n").unwrap();
    let show = |more: &str| {
        std::fs::write(dir.path().join("registry.toml"), format!("{zone}{more}")).unwrap();
        let mut command = command("registry");
        command.current_dir(dir.path()).args(["--config", "registry.toml", "config", "show"]).env("OS_PASSWORD", "of the environment");
        let output = command.output().unwrap();
        let (text, errors) = texts(&output);
        assert!(output.status.success(), "{errors}");
        text.split_once("[[zone]]").unwrap().1.to_owned()
    };
    let text = show("password = \"${OS_PASSWORD}\"\ntenant_id = \"0a1b2c\"\nauth_version = 3\nidle_timeout = \"7s\"\n");
    assert!(text.contains("password = \"[redacted]\"\n") && !text.contains("environment"), "{text}");
    for line in
        ["auth_version = 3", "tenant_id = \"0a1b2c\"", "idle_timeout = \"7s\"", "create_container = false", "verify_reads = \"always\""]
    {
        assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
    }
    let text = show("password_file = \"password\"\n");
    assert!(text.contains("password_file = \"password\"\n") && !text.contains("in a file"), "{text}");
    let cases = [
        ("path = \"x\"\n", "registry.toml:7: zone.path: there is no such setting"),
        ("pasword = \"x\"\n", "registry.toml:7: zone.pasword: there is no such setting; did you mean password?"),
        ("", "registry.toml:1: zone: password is missing: Keystone asks for it"),
        ("password_file = \"none\"\n", "registry.toml:7: zone.password_file: cannot read \"none\""),
        ("password = \"a\"\npassword_file = \"password\"\n", "registry.toml:8: zone.password_file: password is given too"),
        ("password = \"a\"\nidle_timeout = \"0\"\n", "registry.toml:8: zone.idle_timeout: \"0\" is not a time above 0"),
        ("password = \"a\"\ncreate_container = \"maybe\"\n", "registry.toml:8: zone.create_container: \"maybe\" is not true or false"),
        ("password = \"a\"\nauth_version = \"x\"\n", "registry.toml:8: zone.auth_version: \"x\" is not a whole number"),
    ];
    for (more, wanted) in cases {
        let text = complaint(dir.path(), &format!("{zone}{more}"), &[]);
        assert!(text.contains(wanted), "{text}");
    }
    let twice = format!("{zone}password = \"a\"\n{}password = \"a\"\n", zone.replace("leo", "other"));
    assert!(complaint(dir.path(), &twice, &[]).contains("the zones leo and other are the same place"));
}

#[test]
fn zones_preferences_and_policies_that_make_no_sense_are_named_with_where_they_stand() {
    let dir = in_empty_dir();
    let two = "[[zone]]\nname = \"a\"\n[[zone]]\nname = \"b\"\n";
    let cases = [
        ("[[zone]]\nname = \"a\"\n[[zone]]\nname = \"a\"\n".to_owned(), "registry.toml:4: zone.name: there is another zone called a"),
        (two.replace("\"b\"", "\"b\"\npath = \"data/a\""), "registry.toml:5: zone.path: the zones a and b are the same place"),
        (two.replace("\"b\"", "\"b\"\nconcurrency = 0"), "registry.toml:5: zone.concurrency: \"0\" is not a whole number above 0"),
        (two.replace("\"b\"", "\"b\"\nwrite_limit = \"fast\""), "registry.toml:5: zone.write_limit: \"fast\" is not a number with B, KiB"),
        (
            two.replace("\"b\"", "\"b\"\nbackground_share = \"50%\""),
            "registry.toml:5: zone.background_share: \"50%\" is not a number above",
        ),
        (
            two.replace("\"b\"", "\"b\"\nbackground_hours = \"22:00\""),
            "registry.toml:5: zone.background_hours: \"22:00\" is not always, or hours",
        ),
        (
            two.replace("\"b\"", "\"b\"\nbackground_hours = \"25:00-6:00\""),
            "zone.background_hours: \"25:00-6:00\" is not always, or hours of the day",
        ),
        (
            two.replace("\"b\"", "\"b\"\nbackground_hours = \"9:00-9:00\""),
            "zone.background_hours: \"9:00-9:00\" is not always, or hours of the day",
        ),
        (
            format!("storage_preference = [\"b\", \"c\"]\n{two}"),
            "registry.toml:1: storage_preference: there is no zone \"c\"; the zones are a, b",
        ),
        ("storage_preference = 1\n".to_owned(), "registry.toml:1: storage_preference: must be texts in quotes"),
        ("closest = \"far\"\n".to_owned(), "registry.toml:1: closest: \"far\" is not one of preference, measured"),
        (format!("{two}[[policy]]\nzones = [\"c\"]\n"), "registry.toml:6: policy.zones: there is no zone \"c\"; the zones are a, b"),
        (format!("{two}[[policy]]\nzones = [\"*\", \"a\"]\n"), "registry.toml:6: policy.zones: \"*\" is all zones"),
        (format!("{two}[[policy]]\nzones = []\n"), "registry.toml:6: policy.zones: it names no zone"),
        (format!("{two}[[policy]]\nrepositories = \"EU/**\"\n"), "registry.toml:6: policy.repositories: \"EU/**\": a pattern is parts of"),
        (format!("{two}[[policy]]\nmin_copies = 3\n"), "registry.toml:6: policy.min_copies: 3 copies cannot be in 2 zones"),
        (format!("{two}[[policy]]\nmin_copies = 0\n"), "registry.toml:6: policy.min_copies: \"0\" is not a whole number above 0"),
        (format!("{two}[[policy]]\ntoo_few_copies = \"shrug\"\n"), "registry.toml:6: policy.too_few_copies: \"shrug\" is not one of"),
        (format!("{two}[[policy]]\nrepository = \"a\"\n"), "registry.toml:6: policy.repository: there is no such setting; did you mean"),
        ("[policy]\nzones = \"a\"\n".to_owned(), "registry.toml:1: policy: a policy begins with [[policy]]"),
    ];
    for (file, wanted) in cases {
        let text = complaint(dir.path(), &file, &[]);
        assert!(text.contains(wanted), "{file}{text}");
    }
    let text = complaint(dir.path(), "", &["--policy", "everywhere"]);
    assert!(text.contains("flag --policy: policy: part 1 is not key=value; write for example repositories="), "{text}");
    let mut named = command("registry");
    let output =
        named.current_dir(dir.path()).args(["config", "show"]).env("QUAY_DISTRIBUTED_STORAGE_PREFERENCE", "default").output().unwrap();
    let (_, errors) = texts(&output);
    assert!(errors.contains("environment variable QUAY_DISTRIBUTED_STORAGE_PREFERENCE: storage_preference: there is no zone"), "{errors}");
}

#[test]
fn a_policy_may_be_given_by_file_variable_or_flag() {
    let dir = in_empty_dir();
    let file = "[[policy]]\nrepositories = \"eu/**\"\nzones = [\"remote\"]\n\n[[policy]]\nmin_copies = 2\nmin_copies_timeout = \"5s\"\n";
    std::fs::write(dir.path().join("registry.toml"), file).unwrap();
    let show = |args: &[&str], variable: Option<&str>| {
        let mut command = command("registry");
        command.current_dir(dir.path()).args(["config", "show"]).args(args).envs(variable.map(|policy| ("REGISTRY_POLICY", policy)));
        let (text, errors) = texts(&command.output().unwrap());
        assert_eq!(errors, "");
        text.split("[[policy]]").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(show(&[], None).is_empty());
    let from_file = show(&["--config", "registry.toml"], None);
    assert_eq!(from_file.len(), 2);
    assert!(from_file[0].contains("repositories = \"eu/**\"\nzones = [\"remote\"]\nmin_copies = 1\n"), "{from_file:?}");
    assert!(
        from_file[1].contains("repositories = \"**\"\nzones = [\"*\"]\nmin_copies = 2\nmin_copies_timeout = \"5s\"\n"),
        "{from_file:?}"
    );
    let by_variable =
        show(&["--config", "registry.toml"], Some("repositories=a/**,zones=local remote; repositories=b,too_few_copies=warn"));
    assert_eq!(by_variable.len(), 2);
    assert!(
        by_variable[0].contains("zones = [\"local\", \"remote\"]") && by_variable[1].contains("too_few_copies = \"warn\""),
        "{by_variable:?}"
    );
    let by_flag = show(&["--policy", "repositories=c"], Some("repositories=a"));
    assert!(by_flag.len() == 1 && by_flag[0].contains("repositories = \"c\""), "{by_flag:?}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = in_empty_dir();
    let output = registry(dir.path(), &["--config", "nowhere.toml", "config", "show"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("cannot read the configuration file nowhere.toml"));
}

#[test]
fn a_zone_may_be_given_by_file_variable_or_flag() {
    let dir = in_empty_dir();
    std::fs::write(dir.path().join("registry.toml"), "[[zone]]\nname = \"file\"\npath = \"./zone\"\nverify_reads = \"stale(7d)\"\n")
        .unwrap();
    let show = |args: &[&str], variable: Option<&str>| {
        let mut command = command("registry");
        command.current_dir(dir.path()).args(["config", "show"]).args(args).envs(variable.map(|zone| ("REGISTRY_ZONE", zone)));
        let (text, errors) = texts(&command.output().unwrap());
        assert_eq!(errors, "");
        text.split_once("[[zone]]").unwrap().1.to_owned()
    };
    let file = ["--config", "registry.toml"];
    assert!(show(&[], None).contains("name = \"local\"\ntype = \"filesystem\"\npath = \"./data/local\""));
    let zone = show(&file, None);
    assert!(
        zone.contains("name = \"file\"") && zone.contains("path = \"./zone\"") && zone.contains("verify_reads = \"stale(7d)\""),
        "{zone}"
    );
    let zone = show(&file, Some("name=variable,durability=process-crash"));
    assert!(zone.contains("name = \"variable\"") && zone.contains("durability = \"process-crash\""), "{zone}");
    assert!(show(&["--zone", "name=flag"], Some("name=variable")).contains("name = \"flag\""));
}

#[test]
fn secrets_come_from_a_file_or_a_variable_and_are_never_shown() {
    let dir = in_empty_dir();
    let secret = "postgres://user:hunter2@db.example/registry";
    std::fs::write(dir.path().join("url"), format!("{secret}\n")).unwrap();
    std::fs::write(dir.path().join("file.toml"), "[metadata]\nurl_file = \"url\"\n").unwrap();
    std::fs::write(dir.path().join("variable.toml"), "[metadata]\nurl = \"postgres://user:${PASSWORD}@db.example/registry\"\n").unwrap();
    let runs: [(&[&str], (&str, &str)); 5] = [
        (&["--config", "file.toml"], ("UNUSED", "")),
        (&["--config", "variable.toml"], ("PASSWORD", "hunter2")),
        (&["--metadata-url-file", "url"], ("UNUSED", "")),
        (&[], ("REGISTRY_METADATA_URL_FILE", "url")),
        (&[], ("REGISTRY_METADATA_URL", secret)),
    ];
    for (args, variable) in runs {
        let output = command("registry").current_dir(dir.path()).args(["config", "show"]).args(args).envs([variable]).output().unwrap();
        assert_eq!(shown(&output, "url").0, "\"postgres://[redacted]@db.example/registry\"");
        let (text, errors) = texts(&output);
        assert!(!text.contains("hunter2") && !errors.contains("hunter2"), "{text}{errors}");
    }
    // Nor when the database cannot be reached, nor in --help.
    let unreachable = "postgres://user:hunter2@127.0.0.1:1/registry";
    let output = registry(dir.path(), &["--metadata-url", unreachable, "validate"]);
    let (text, errors) = texts(&output);
    assert!(output.status.code() == Some(1) && errors.contains("cannot open the PostgreSQL database"), "{errors}");
    assert!(!text.contains("hunter2") && !errors.contains("hunter2"), "{text}{errors}");
    let help = command("registry").arg("--help").env("REGISTRY_METADATA_URL", secret).output().unwrap();
    assert!(!texts(&help).0.contains("hunter2"));
}

#[test]
fn a_secret_that_cannot_be_had_is_an_error() {
    let dir = in_empty_dir();
    let text = complaint(dir.path(), "[metadata]\nurl = \"postgres://u:${NO_SUCH_VARIABLE}@h/d\"\n", &[]);
    assert!(text.contains("registry.toml:2: metadata.url: the environment variable NO_SUCH_VARIABLE is not set"), "{text}");
    let text = complaint(dir.path(), "[metadata]\nurl = \"postgres://u:${NO\"\n", &[]);
    assert!(text.contains("a ${ without its }"), "{text}");
    let text = complaint(dir.path(), "[metadata]\nurl_file = \"nowhere\"\n", &[]);
    assert!(text.contains("registry.toml:2: metadata.url_file: cannot read \"nowhere\""), "{text}");
    let text = complaint(dir.path(), "[metadata]\nurl = \"sqlite:a\"\nurl_file = \"nowhere\"\n", &[]);
    assert!(text.contains("metadata.url is given too; leave one of them"), "{text}");
}
