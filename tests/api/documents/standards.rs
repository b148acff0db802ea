//! `STANDARDS.md` has every requirement of ASVS, and `INVENTORY.md` everything that it claims to list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const STANDARDS: &str = include_str!("../../../STANDARDS.md");
const INVENTORY: &str = include_str!("../../../INVENTORY.md");
const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The requirements of levels 1 and 2, and their levels.
const REQUIREMENTS: &str = include_str!("asvs_5.0.0.txt");

/// The statuses of a requirement, in the order of the counts.
const STATUSES: [&str; 5] = ["met", "by setting", "in part", "not met", "n/a"];

/// Names of crates that have to be in the inventory if a function depends on them, used or not.
const CRYPTOGRAPHY: [&str; 36] = [
    "aes",
    "aes-gcm",
    "argon2",
    "argon2-rust",
    "aws-lc-rs",
    "bcrypt",
    "blake2",
    "blake3",
    "blowfish",
    "cbc",
    "chacha20",
    "chacha20poly1305",
    "crypto_box",
    "des",
    "digest",
    "ecdsa",
    "ed25519-dalek",
    "hkdf",
    "hmac",
    "jsonwebtoken",
    "md-5",
    "md5",
    "openssl",
    "p256",
    "p384",
    "pbkdf2",
    "rand",
    "rc4",
    "ring",
    "rsa",
    "rustls",
    "scrypt",
    "sha1",
    "sha2",
    "sha3",
    "x25519-dalek",
];

/// The cells of the rows of tables, without those whose first cell is empty, which are headings.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines.filter(|line| !line.starts_with('|')).map(|line| line.split(" | ").collect())
}

/// The text between the lines `from` and `to`.
fn section<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

/// The values of all lines of the template that start with `key`, without the name of the stack.
fn names(key: &str) -> BTreeSet<&'static str> {
    let values = TEMPLATE.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": !Sub "));
    values.collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The manifests of the functions and of the code that they share.
fn manifests() -> Vec<PathBuf> {
    let functions = fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().path());
    functions.chain([root().join("shared")]).map(|folder| folder.join("Cargo.toml")).collect()
}

#[test]
fn every_requirement_has_one_row_and_the_counts_are_those_of_the_rows() {
    let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
    let required: BTreeMap<&str, &str> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    let mut found = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for cells in rows(section(STANDARDS, "\n### V1 ", "\n### Of level 3\n")) {
        let [ids, level, asks_for, status, evidence] = cells[..] else { panic!("{cells:?}") };
        assert!(STATUSES.contains(&status), "{ids}: {status}");
        assert!(!asks_for.is_empty() && !evidence.is_empty(), "{ids}");
        let is_shown = evidence.contains("::") || evidence.contains("](") || evidence.contains("`.ci/");
        assert!(is_shown || !["met", "by setting"].contains(&status), "{ids} is not shown by anything");
        for id in ids.split(", ") {
            assert_eq!(required.get(id), Some(&level), "{id}");
            assert!(found.insert(id), "{id} twice");
            *counts.entry((status, level)).or_insert(0) += 1;
        }
    }
    let missing: Vec<_> = required.keys().filter(|id| !found.contains(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let table = section(STANDARDS, "\n| OWASP ASVS 5.0.0 |", "\n## ");
    let counted = STATUSES.map(|status| {
        let [first, second] = ["1", "2"].map(|level| counts.get(&(status, level)).copied().unwrap_or(0));
        format!("{status}, {first}, {second}")
    });
    let stated: Vec<_> = rows(table).map(|cells| cells.join(", ")).collect();
    assert_eq!(stated[..], counted);
}

#[test]
fn the_inventory_names_every_table_secret_and_log() {
    let tables = names("TableName");
    let secrets =
        TEMPLATE.lines().filter_map(|line| line.trim().strip_prefix("Name: !Sub ${AWS::StackName}/"));
    let secrets: BTreeSet<_> =
        secrets.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '-')).collect();
    let logs = names("LogGroupName");
    assert!(tables.len() == 6 && secrets.len() == 4 && logs.len() == 4, "{tables:?} {secrets:?} {logs:?}");
    for table in tables {
        let name = table.strip_prefix("${AWS::StackName}-").unwrap();
        assert!(section(INVENTORY, "\n## Data\n", "\n## ").contains(&format!("`{name}`")), "{name}");
    }
    for secret in secrets {
        let keys = section(INVENTORY, "\n## Keys and algorithms\n", "\n## ");
        assert!(keys.contains(&format!("`{secret}`")), "{secret}");
    }
    for log in logs {
        let row = format!("\n| `{}` |", log.replace("${AWS::StackName}", "STACK"));
        assert!(section(INVENTORY, "\n## Logs\n", "\n## ").contains(&row), "{row}");
    }
}

#[test]
fn the_inventory_names_every_crate_of_cryptography() {
    let keys = section(INVENTORY, "\n| Algorithm |", "\n## ");
    let mut used = BTreeSet::new();
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        let (_, dependencies) = text.split_once("\n[dependencies]\n").unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        for dependency in dependencies.lines().filter_map(|line| line.split(['.', ' ']).next()) {
            used.extend(CRYPTOGRAPHY.into_iter().find(|name| *name == dependency));
        }
    }
    assert!(used.len() > 8, "{used:?}");
    for name in CRYPTOGRAPHY {
        assert_eq!(keys.contains(&format!("`{name}`")), used.contains(name), "{name}");
    }
}

#[test]
fn no_function_starts_a_process() {
    for manifest in manifests() {
        for file in sources(manifest.with_file_name("src").as_path()) {
            let source = fs::read_to_string(&file).unwrap();
            for way in ["process::Command", "process::{"] {
                assert!(!source.contains(way), "{way} in {}", file.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lints = section(&workspace, "\n[workspace.lints.rust]\n", "\n[");
    assert!(lints.lines().any(|line| line == "unsafe_code = \"forbid\""), "{lints}");
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("\n[lints]\nworkspace = true\n"), "{}", manifest.display());
    }
}

#[test]
fn clients_and_mail_servers_are_reached_by_tls_only() {
    // An HTTP API has no port 80. Nothing else listens.
    assert_eq!(TEMPLATE.matches("Type: AWS::Serverless::HttpApi\n").count(), 1);
    for other in ["FunctionUrlConfig", "AWS::Serverless::Api\n", "LoadBalancer", "AWS::Lambda::Url"] {
        assert!(!TEMPLATE.contains(other), "{other}");
    }
    assert!(
        TEMPLATE.contains(
            "CertificateArn: !Ref CertificateArn, EndpointType: REGIONAL, SecurityPolicy: TLS_1_2, "
        )
    );
    assert!(TEMPLATE.contains("DeliveryOptions: {TlsPolicy: REQUIRE}"));
}

#[test]
fn packages_contain_a_binary_and_nothing_else() {
    // `cargo lambda` packages the executable alone.
    let functions = TEMPLATE.matches("Type: AWS::Serverless::Function\n").count();
    assert!(functions > 10, "{functions}");
    assert_eq!(TEMPLATE.matches("BuildMethod: rust-cargolambda").count(), functions);
    assert!(!TEMPLATE.contains("AWS::Serverless::LayerVersion"));
}

#[test]
fn production_is_deployed_as_assessed() {
    let configuration = fs::read_to_string(root().join("samconfig.toml")).unwrap();
    let (_, production) = configuration.split_once("\n[prod.global.parameters]\n").unwrap();
    for setting in ["PasswordMinLength=15", "AllowTokenInQuery=false"] {
        assert!(production.contains(&format!("\"{setting}\"")), "{setting}");
    }
    for weaker in ["PasswordBlocklist", "ResetCodeTtlSeconds", "JwtAlgorithm", "CorsAllowOrigins", "PerIp"] {
        assert!(!production.contains(weaker), "{weaker}");
    }
}
