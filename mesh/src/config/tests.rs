use super::*;

const CANARY: &str = "canary-value";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    database: DatabaseConfig,
    hold_seconds: u32,
    greeting: String,
    clock_file: Option<PathBuf>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50052),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            database: DatabaseConfig::default(),
            hold_seconds: 600,
            greeting: String::new(),
            clock_file: None,
        }
    }
}

impl Configuration for Sample {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: Some(&self.database),
            identity: None,
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        self.database.check()
    }
}

/// A service that neither the simulator's clock nor anything else that is shared concerns.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
}

impl Default for Plain {
    fn default() -> Self {
        let Sample { server, telemetry, tls, .. } = Sample::default();
        Self { server, telemetry, tls }
    }
}

impl Configuration for Plain {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: None,
            clock_file: None,
        }
    }
}

/// A file that lives as long as the value.
fn file(content: &str) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("written");
    file.into_temp_path()
}

fn sources(file: Option<&Path>, environment: &[(&str, &str)], flags: &[&str]) -> Sources {
    Sources {
        file: file.map(Path::to_owned),
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        problems: vec![],
    }
}

const URL: (&str, &str) = ("JETWAY_SAMPLE_DATABASE__URL", "postgres://sample:canary-value@127.0.0.1/sample");

fn loaded(sources: &Sources) -> Sample {
    load("sample", sources).expect("a right configuration")
}

fn problems(sources: &Sources) -> Vec<String> {
    let error = load::<Sample>("sample", sources).expect_err("a wrong configuration");
    let text = error.to_string();
    assert!(text.starts_with("the configuration of sample is wrong:\n  - "), "{text}");
    assert!(!text.contains(CANARY), "{text}");
    assert!(error.problems.iter().all(|problem| text.contains(problem.as_str())), "{text}");
    error.problems
}

#[test]
fn each_source_goes_over_the_one_before_it() {
    let toml =
        file("hold_seconds = 1\ngreeting = 'file'\n[telemetry]\nlog = 'file'\n[server]\ndrain_delay_ms = 1");
    let dotenv = [URL, ("JETWAY_SAMPLE_HOLD_SECONDS", "2"), ("JETWAY_SAMPLE_TELEMETRY__LOG", "dotenv")];
    let own = [("JETWAY_SAMPLE_HOLD_SECONDS", "3"), ("JETWAY_SAMPLE_GREETING", "environment")];

    // `.env` comes before the environment, as in `Sources::of_process`.
    let config = loaded(&sources(Some(&toml), &[&dotenv[..], &own[..]].concat(), &["hold_seconds=4"]));

    assert_eq!(config.hold_seconds, 4, "flag");
    assert_eq!(config.greeting, "environment");
    assert_eq!(config.telemetry.log, "dotenv");
    assert_eq!(config.server.drain_delay_ms, 1, "file");
    assert_eq!(config.server.drain_timeout_ms, 25_000, "default");
    let config = loaded(&sources(Some(&toml), &[&dotenv[..], &own[..]].concat(), &[]));
    assert_eq!(config.hold_seconds, 3, "environment");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_origin() {
    let toml =
        file("colour = 'canary-value'\nhold_seconds = 'canary-value'\n[server]\nlisten = 'canary-value'");
    let environment = [
        ("JETWAY_SAMPLE_SHAPE", CANARY),
        ("JETWAY_SAMPLE_TELEMETRY__LEVEL", CANARY),
        ("JETWAY_SAMPLE_DATABASE__CONNECTIONS_MAX", CANARY),
        ("JETWAY_OTHER_SHAPE", "of another service"),
    ];
    let flags = ["size=canary-value", "server.drain_delay_ms=-1", "canary-value"];

    let problems = problems(&sources(Some(&toml), &environment, &flags));

    let from_file = format!("(file {})", toml.display());
    let expected = [
        ("`colour`", from_file.as_str(), "is not a setting"),
        ("`hold_seconds`", &from_file, "must be u32"),
        ("`server.listen`", &from_file, "invalid socket address syntax"),
        ("`shape`", "(environment variable JETWAY_SAMPLE_SHAPE)", "is not a setting"),
        ("`telemetry.level`", "(environment variable JETWAY_SAMPLE_TELEMETRY__LEVEL)", "is not a setting"),
        (
            "`database.connections_max`",
            "(environment variable JETWAY_SAMPLE_DATABASE__CONNECTIONS_MAX)",
            "must be",
        ),
        ("`size`", "(flag --set)", "is not a setting"),
        ("`server.drain_delay_ms`", "(flag --set)", "must be"),
        ("a `--set` flag is not of the form key=value", "", ""),
        ("`database.url` is missing", "", ""),
    ];
    for (name, origin, rule) in expected {
        let said = |problem: &String| {
            problem.starts_with(name) && problem.contains(origin) && problem.contains(rule)
        };
        assert_eq!(problems.iter().filter(|problem| said(problem)).count(), 1, "{name} in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_value_can_come_from_a_file_that_a_variable_names() {
    let secret = file("postgres://sample@127.0.0.1/sample\n");
    let at = secret.display().to_string();

    let config = loaded(&sources(None, &[("JETWAY_SAMPLE_DATABASE__URL_FILE", &at)], &[]));

    assert_eq!(config.database.url.expose_secret(), "postgres://sample@127.0.0.1/sample");
}

#[test]
fn a_file_that_a_variable_names_and_that_is_not_there_is_said() {
    let problems = problems(&sources(None, &[("JETWAY_SAMPLE_DATABASE__URL_FILE", "/no/such/file")], &[]));

    assert!(
        problems[0].starts_with("`database.url` (environment variable JETWAY_SAMPLE_DATABASE__URL_FILE)")
    );
    assert!(problems[0].contains("cannot be read from its file"), "{problems:#?}");
}

#[test]
fn a_configuration_file_that_is_not_there_is_said() {
    let problems = problems(&sources(Some(Path::new("/no/such/file")), &[URL], &[]));

    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("the file /no/such/file cannot be read: "), "{problems:#?}");
}

#[test]
fn a_configuration_file_that_is_not_toml_is_not_quoted() {
    let toml = file("hold_seconds = 1\n[database]\nurl = canary-value\n");

    let problems = problems(&sources(Some(&toml), &[URL], &[]));

    assert_eq!(problems, [format!("the file {} is not TOML: see line 3", toml.display())]);
}

#[test]
fn a_broken_line_of_the_environment_file_is_said_and_not_quoted() {
    let at =
        file("JETWAY_SAMPLE_GREETING=hello\ncanary-value without a name\nJETWAY_SAMPLE_HOLD_SECONDS=7\n");

    let (environment, problems) = dotenv(&at);

    assert_eq!(environment.len(), 2, "{environment:?}");
    assert_eq!(problems, [format!("the file {} has a line that is not NAME=value", at.display())]);
    let sources = Sources { environment, problems: problems.clone(), ..Sources::default() };
    let all = self::problems(&sources);
    assert_eq!(all, [problems[0].as_str(), "`database.url` is missing"]);
    assert_eq!(dotenv(Path::new("/no/such/.env")), (vec![], vec![]));
}

#[test]
fn text_that_looks_like_a_number_or_a_truth_value_is_text_where_text_is_wanted() {
    for text in ["12345678", "true", "-1"] {
        let config = loaded(&sources(None, &[URL, ("JETWAY_SAMPLE_GREETING", text)], &[]));
        assert_eq!(config.greeting, text);
    }
}

#[test]
fn a_value_may_contain_equals_signs() {
    let config = loaded(&sources(None, &[URL], &["greeting=a=b"]));

    assert_eq!(config.greeting, "a=b");
}

#[test]
fn secrets_are_neither_printed_nor_debugged() {
    let config = loaded(&sources(None, &[URL], &[]));
    let (printed, debugged) = (print(&config), format!("{config:?}"));

    assert!(printed.contains("url = \"[redacted]\"") && printed.contains("hold_seconds = 600"), "{printed}");
    assert!(!printed.contains(CANARY) && !debugged.contains(CANARY), "{printed}{debugged}");
}

#[test]
fn shared_variables_reach_the_services_that_know_them() {
    let config = loaded(&sources(None, &[URL, ("JETWAY_CLOCK_FILE", "/tmp/clock")], &[]));

    assert_eq!(config.clock_file.as_deref(), Some(Path::new("/tmp/clock")));
}

#[test]
fn shared_variables_do_not_disturb_the_services_that_do_not_know_them() {
    let shared = [("JETWAY_CLOCK_FILE", "/tmp/clock"), ("JETWAY_SIMULATOR", "true")];

    load::<Plain>("plain", &sources(None, &shared, &[])).expect("shared variables are ignored");
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Door {
    address: String,
    steps: u32,
    names: Vec<String>,
    sign: Option<String>,
}

/// A service with a list of tables.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct House {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    door: Vec<Door>,
}

impl Default for House {
    fn default() -> Self {
        let Plain { server, telemetry, tls } = Plain::default();
        Self { server, telemetry, tls, door: vec![] }
    }
}

impl Configuration for House {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: None,
            clock_file: None,
        }
    }

    fn lists() -> Vec<(&'static str, Value)> {
        let door = Door { address: String::new(), steps: 3, names: vec![], sign: None };
        vec![("door", Value::serialize(door).expect("a table"))]
    }

    fn short_names() -> &'static [(&'static str, &'static str)] {
        &[("listen", "server.listen")]
    }
}

#[test]
fn a_list_of_tables_is_put_together_from_every_source() {
    let toml =
        file("listen = '127.0.0.1:1'\n[[door]]\naddress = 'a'\nnames = ['x']\n[[door]]\naddress = 'b'\n");
    let environment = [("JETWAY_HOUSE_DOOR__1__STEPS", "5"), ("JETWAY_HOUSE_DOOR__1__NAMES", "y, z")];
    let flags = ["door.0.sign=7", "door.2.address=c"];

    let house: House = load("house", &sources(Some(&toml), &environment, &flags)).expect("right");

    assert_eq!(house.server.listen.port(), 1);
    let doors: Vec<_> = house
        .door
        .iter()
        .map(|door| (door.address.as_str(), door.steps, door.names.join("+"), door.sign.as_deref()))
        .collect();
    assert_eq!(
        doors,
        [
            ("a", 3, "x".to_owned(), Some("7")),
            ("b", 5, "y+z".to_owned(), None),
            ("c", 3, String::new(), None)
        ]
    );
    assert!(print(&house).contains("[[door]]"), "{}", print(&house));
}

#[test]
fn every_mistake_in_a_list_of_tables_is_said_by_name_at_once() {
    let toml = file("[[door]]\naddress = 1\ncolour = 'canary-value'\n[[door]]\nsteps = 'canary-value'\n");
    let environment = [("JETWAY_HOUSE_DOOR__3__STEPS", "1"), ("JETWAY_HOUSE_DOOR", CANARY)];

    let error = load::<House>("house", &sources(Some(&toml), &environment, &[])).expect_err("wrong");

    let text = error.to_string();
    assert!(!text.contains(CANARY), "{text}");
    for name in [
        "`door.0.address` (file",
        "`door.0.colour` (file",
        "`door.1.steps` (file",
        "`door` (environment",
        "`door.2` is missing",
    ] {
        assert_eq!(
            error.problems.iter().filter(|problem| problem.starts_with(name)).count(),
            1,
            "{name}: {text}"
        );
    }
}
