//! Compiles the contract: messages and services, the descriptor set, and the policy table.
//!
//! A method without a policy, or a validation rule that `mesh` does not enforce, ends the build.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, bail};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

const FILES: [&str; 10] = [
    "jetway/type/money.proto",
    "jetway/mesh/v1/policy.proto",
    "jetway/identity/v1/identity.proto",
    "jetway/identity/v1/token_status.proto",
    "jetway/bookings/v1/catalog.proto",
    "jetway/bookings/v1/flights.proto",
    "jetway/bookings/v1/bookings.proto",
    "jetway/payments/v1/payments.proto",
    "jetway/payments/v1/webhooks.proto",
    "jetway/acquirer/v1/acquirer.proto",
];

/// Rules of `buf.validate` that `mesh::validate` enforces, by message and field.
const RULES: [(&str, &[&str]); 5] = [
    ("FieldRules", &["required", "ignore", "string", "int32", "int64", "repeated", "enum"]),
    ("StringRules", &["min_len", "max_len", "max_bytes", "pattern", "uuid", "in"]),
    ("Int32Rules", &["gte", "lte"]),
    ("Int64Rules", &["gte", "lte"]),
    ("RepeatedRules", &["min_items", "max_items"]),
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by environment variables")]
fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=jetway");
    println!("cargo::rerun-if-changed=third_party");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([".", "third_party"])?;
    compiler.include_imports(true).include_source_info(true);
    for file in FILES {
        compiler.open_file(file)?;
    }
    // Encoded by the compiler: a round trip through `prost_types` would drop the custom options.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptor_set.binpb"), &encoded)?;
    let pool = DescriptorPool::decode(encoded.as_slice())?;

    fs::write(out.join("policy_table.rs"), policy_table(&pool)?)?;
    only_known_rules(&pool)?;

    let secret = messages_with_secrets(&pool);
    fs::write(out.join("redacted.rs"), redacted_debug(&secret)?)?;

    tonic_prost_build::configure()
        .skip_debug(&secret)
        .compile_fds(compiler.file_descriptor_set())
        .context("code generation")?;
    Ok(())
}

/// The source of a table with one entry for each method, sorted by path.
fn policy_table(pool: &DescriptorPool) -> anyhow::Result<String> {
    let extension = pool.get_extension_by_name("jetway.mesh.v1.policy").context("the policy option")?;
    let mut without = Vec::new();
    let mut entries = Vec::new();
    for service in pool.services().filter(|service| service.package_name().starts_with("jetway.")) {
        for method in service.methods() {
            let options = method.options();
            match options.get_extension(&extension).as_message() {
                Some(policy) if options.has_extension(&extension) && has_access(policy) => {
                    entries.push(entry(&method, policy)?);
                }
                _ => without.push(method.full_name().to_owned()),
            }
        }
    }
    if !without.is_empty() {
        bail!(
            "no `option (jetway.mesh.v1.policy)` with an access class on: {}. Say who may call it.",
            without.join(", ")
        );
    }
    entries.sort();
    Ok(format!("&[\n{}]\n", entries.concat()))
}

fn has_access(policy: &DynamicMessage) -> bool {
    policy
        .get_field_by_name("access")
        .is_some_and(|access| access.as_message().is_some_and(|access| access.fields().next().is_some()))
}

fn entry(method: &MethodDescriptor, policy: &DynamicMessage) -> anyhow::Result<String> {
    let access = policy.get_field_by_name("access").context("access")?;
    let access = access.as_message().context("access")?;
    let strings = |name: &str| -> Vec<String> {
        access
            .get_field_by_name(name)
            .and_then(|value| value.as_list().map(<[Value]>::to_vec))
            .unwrap_or_default()
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let flag = |message: &DynamicMessage, name: &str| {
        message.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false)
    };
    let number =
        |name: &str| policy.get_field_by_name(name).and_then(|value| value.as_enum_number()).unwrap_or(0);
    let timeout = policy
        .get_field_by_name("timeout")
        .filter(|_| policy.has_field_by_name("timeout"))
        .and_then(|value| value.as_message()?.get_field_by_name("seconds")?.as_i64())
        .unwrap_or(10);
    let bytes = policy
        .get_field_by_name("max_request_bytes")
        .and_then(|value| value.as_u32())
        .filter(|bytes| *bytes > 0)
        .unwrap_or(64 * 1024);
    let level = method
        .options()
        .get_field_by_name("idempotency_level")
        .and_then(|value| value.as_enum_number())
        .unwrap_or(0);

    let mut source = String::new();
    writeln!(
        source,
        "    Method {{ path: \"/{}/{}\", access: Access {{ public: {}, signed_in: {}, roles: &{:?}, workloads: &{:?}, step_up: {} }}, \
         idempotency: Idempotency::{}, request_id: RequestId::{}, rate: Rate::{}, criticality: Criticality::{}, \
         timeout: Duration::from_secs({timeout}), max_request_bytes: {bytes}, sensitive: {}, client_streaming: {}, server_streaming: {} }},",
        method.parent_service().full_name(),
        method.name(),
        flag(access, "public"),
        flag(access, "signed_in"),
        strings("roles"),
        strings("workloads"),
        flag(access, "step_up"),
        ["Unknown", "NoSideEffects", "Idempotent"][usize::try_from(level)?],
        ["None", "Optional", "Required"][usize::try_from(number("request_id"))?],
        ["Default", "Credentials", "Expensive"][usize::try_from(number("rate"))?],
        ["Critical", "Sheddable", "SheddablePlus", "Critical", "CriticalPlus"]
            [usize::try_from(number("criticality"))?],
        flag(policy, "sensitive"),
        method.is_client_streaming(),
        method.is_server_streaming(),
    )?;
    Ok(source)
}

/// Full names of the messages that have a field with the standard option `debug_redact`.
fn messages_with_secrets(pool: &DescriptorPool) -> Vec<String> {
    pool.all_messages()
        .filter(|message| {
            message.fields().any(|field| {
                field
                    .options()
                    .get_field_by_name("debug_redact")
                    .and_then(|value| value.as_bool())
                    .unwrap_or(false)
            })
        })
        .map(|message| message.full_name().to_owned())
        .collect()
}

/// `Debug` for the messages that hold secrets: the name and nothing else.
fn redacted_debug(messages: &[String]) -> anyhow::Result<String> {
    let mut source = String::new();
    for name in messages {
        let path = name.strip_prefix("jetway.").context("only our packages hold secrets")?.replace('.', "::");
        writeln!(
            source,
            "impl std::fmt::Debug for crate::{path} {{\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        \
             f.write_str(\"{} {{ [redacted] }}\")\n    }}\n}}",
            name.rsplit('.').next().unwrap_or(name),
        )?;
    }
    Ok(source)
}

/// Refuses validation rules that nobody would enforce.
fn only_known_rules(pool: &DescriptorPool) -> anyhow::Result<()> {
    let extension = pool.get_extension_by_name("buf.validate.field").context("the validation option")?;
    for message in pool.all_messages().filter(|message| message.package_name().starts_with("jetway.")) {
        for field in message.fields() {
            let options = field.options();
            if !options.has_extension(&extension) {
                continue;
            }
            if let Some(rules) = options.get_extension(&extension).as_message() {
                check_rules(rules).with_context(|| field.full_name().to_owned())?;
            }
        }
    }
    Ok(())
}

fn check_rules(rules: &DynamicMessage) -> anyhow::Result<()> {
    let descriptor = rules.descriptor();
    let known = RULES.iter().find(|(message, _)| *message == descriptor.name()).map(|(_, fields)| *fields);
    for (field, value) in rules.fields() {
        match known {
            Some(known) if !known.contains(&field.name()) => {
                bail!(
                    "the rule `{}.{}` is not enforced by `mesh::validate`",
                    descriptor.name(),
                    field.name()
                );
            }
            _ => {}
        }
        if let Value::Message(nested) = value {
            check_rules(nested)?;
        }
    }
    Ok(())
}
