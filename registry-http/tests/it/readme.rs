//! `tests/README.md` names real tests, and leaves out no part of the API.

use std::path::Path;

const README: &str = include_str!("../README.md");

/// The rows of the distribution-spec's endpoints, and what else clients look at.
const ROWS: [&str; 29] = [
    "1",
    "2",
    "3",
    "4a",
    "4b",
    "4c",
    "5",
    "6",
    "7a",
    "7b",
    "8a",
    "8b",
    "9",
    "10",
    "11",
    "12",
    "12a",
    "12b",
    "13",
    "14",
    "errors",
    "warning",
    "proxying",
    "sha512",
    "locations",
    "data",
    "clients",
    "reverse proxy",
    "memory",
];

fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let table = README.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row"));
    let mut rows = Vec::new();
    for line in table {
        let row = line.split('|').nth(1).unwrap().trim();
        let tests = line.rsplit('|').nth(1).unwrap();
        rows.push((row, tests.split('`').skip(1).step_by(2).collect()));
    }
    rows
}

/// The source of a test, by its path: `uploads::…` is in `tests/it/uploads.rs`, `auth::matrix::…` in `tests/it/auth/matrix.rs`, `range::tests::…` in `src/range.rs`.
fn source_of(test: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (modules, _) = test.rsplit_once("::").unwrap_or_else(|| panic!("{test} has no module"));
    let file = match modules.strip_suffix("::tests") {
        Some(module) => root.join("src").join(format!("{}.rs", module.replace("::", "/"))),
        None => {
            let file = |modules: &str| root.join("tests/it").join(format!("{}.rs", modules.replace("::", "/")));
            // A module may be in the file of the one around it.
            let own = file(modules);
            if own.is_file() { own } else { file(modules.split("::").next().unwrap()) }
        }
    };
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {}: {error}", file.display()))
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let mut count = 0;
    for (row, tests) in rows() {
        assert!(!tests.is_empty(), "row {row} names no test");
        for test in tests {
            let name = test.rsplit("::").next().unwrap();
            let source = source_of(test);
            let before = source.split(&format!("fn {name}(")).next().unwrap();
            assert!(before.len() < source.len(), "{test} does not exist");
            let attribute = before.trim_end().trim_end_matches("async").trim_end().lines().last().unwrap_or_default().trim();
            assert!(attribute.starts_with("#[") && attribute.contains("test"), "{test} is no test: {attribute}");
            count += 1;
        }
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn the_readme_has_every_row() {
    let found: Vec<_> = rows().into_iter().map(|(row, _)| row).collect();
    for row in ROWS {
        assert!(found.contains(&row), "row {row} is missing");
    }
}
