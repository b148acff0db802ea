//! `template.yaml` and RUNBOOK.md agree on the operation of the stack: alarms, deployments, keys, and what is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::template::{Function, Resource, Template};

use crate::helpers::{CHECK_CODE, RESET_PASSWORD, SEND_EMAIL};

use super::template::{ADMINISTRATION, functions, template, with_parameters};

/// A customer managed key.
pub(super) const KEY: &str = "arn:aws:kms:eu-central-1:000000000000:key/0";

/// The functions that answer requests to the API, by their logical ids.
fn functions_of_the_api() -> impl Iterator<Item = Function> {
    functions().into_iter().filter(|function| !function.routes.is_empty())
}

/// The stack with a gradual deployment, which alarms guard.
pub(crate) fn guarded() -> Template {
    with_parameters(&[("DEPLOYMENT_PREFERENCE", "Canary10Percent10Minutes")])
}

/// The stack with every alarm.
fn everything() -> Template {
    with_parameters(&[
        ("DEPLOYMENT_PREFERENCE", "Canary10Percent10Minutes"),
        ("ON_CALL_EMAIL", "on.call@example.com"),
        ("SIGN_IN_NOTICES", "true"),
        ("SMOKE_TEST_MINUTES", "5"),
    ])
}

#[test]
fn one_alarm_calls_somebody_and_the_others_inform() {
    let topics = |properties: &Value| {
        let actions = properties["AlarmActions"].as_array().unwrap();
        actions.iter().map(|action| action["Ref"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (id, Resource { kind, properties, .. }) in everything().resources().unwrap() {
        match kind.as_str() {
            "AWS::CloudWatch::CompositeAlarm" => {
                assert_eq!((id.as_str(), topics(properties)), ("OnCall", vec!["OnCallTopic".to_owned()]));
                let rule = json!({"Fn::Sub": r#"ALARM("${Api5xxShare}") OR ALARM("${FailedSmokeTests}")"#});
                assert_eq!(properties["AlarmRule"]["Fn::If"][1], rule);
            }
            "AWS::CloudWatch::Alarm" => assert_eq!(topics(properties), ["AlarmTopic"], "{id}"),
            _ => {}
        }
    }
    // Without a recipient or a schedule, there is no alarm to pay for.
    let none = template().resources().unwrap().into_keys();
    let parts = ["OnCall", "Api5xxShare", "FailedSmokeTests", "SmokeTestSchedule", "SmokeTestPermission"];
    assert_eq!(none.filter(|id| parts.iter().any(|part| id.starts_with(part))).count(), 0);
}

#[test]
fn every_alarm_is_in_the_runbook_and_on_the_dashboard() {
    let (_, section) = include_str!("../../../RUNBOOK.md").split_once("\n## Alarms\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let named: BTreeSet<&str> =
        rows.flat_map(|names| names.split(", ").map(|name| name.trim_matches('`'))).collect();
    let alarms = everything().alarms().unwrap().into_keys();
    let mut alarms: BTreeSet<&str> =
        alarms.map(|name| if name.ends_with("Gate") { "…Gate" } else { name }).collect();
    alarms.insert("OnCall");
    assert_eq!(named, alarms);
    for alarm in template().alarms().unwrap().into_keys() {
        assert!(include_str!("../../../template.yaml").contains(&format!("\"${{{alarm}.Arn}}\"")), "{alarm}");
    }
}

#[test]
fn an_alarm_watches_the_errors_and_throttles_of_each_function() {
    let watched_by = |alarms: &[&str]| {
        let resources = template().resources().unwrap();
        let mut watched = Vec::new();
        for alarm in alarms {
            let properties = &resources[&(*alarm).to_owned()].properties;
            let metrics = properties["Metrics"].as_array();
            let metrics = metrics.map_or(vec![properties], |metrics| {
                metrics.iter().map(|metric| &metric["MetricStat"]["Metric"]).collect()
            });
            let dimensions = metrics.iter().map(|metric| &metric["Dimensions"][0]["Value"]["Ref"]);
            watched.extend(dimensions.filter_map(Value::as_str).map(str::to_owned));
        }
        watched.sort_unstable();
        watched
    };
    let all_but = |others: &[&str]| {
        let mut ids: Vec<String> = functions().into_iter().map(|function| function.id).collect();
        ids.retain(|id| !others.contains(&id.as_str()));
        ids
    };
    // A token that a REST API refuses is an error of the authorizer. Options have alarms of their own.
    let errors = ["FunctionErrors", "OtherFunctionErrors", "AdministrationErrors", "RotationErrors"];
    assert_eq!(watched_by(&errors), all_but(&["Authorizer", "NotifySignIn", "SmokeTest"]));
    // An administrator sees that a call was refused.
    let throttles = ["FunctionThrottles", "OtherFunctionThrottles"];
    assert_eq!(watched_by(&throttles), all_but(&["ExportUsers", "ManageUsers", "NotifySignIn", "SmokeTest"]));
}

#[test]
fn tables_secrets_and_logs_are_kept_when_the_stack_is_deleted() {
    for (id, resource) in with_parameters(&[("AUDIT_TRAIL", "true")]).resources().unwrap() {
        // If their creation is rolled back, they must not be in the way of the next one.
        let is_kept = resource.deletion_policy.as_deref() == Some("RetainExceptOnCreate")
            && resource.update_replace_policy.as_deref() == Some("Retain");
        let is_needed = [
            "AWS::DynamoDB::Table",
            "AWS::Logs::LogGroup",
            "AWS::S3::Bucket",
            "AWS::SES::EmailIdentity",
            "AWS::SecretsManager::Secret",
        ];
        assert_eq!(is_kept, is_needed.contains(&resource.kind.as_str()), "{id}");
    }
}

#[test]
fn a_deployment_is_guarded_by_the_failures_of_the_new_version_of_each_function() {
    let resources = guarded().resources().unwrap();
    let no_value = json!({"Ref": "AWS::NoValue"});
    let known_to_test = &resources[&"SmokeTest".to_owned()].properties["Environment"]["Variables"];
    let known_to_test: Vec<&Value> = known_to_test.as_object().unwrap().values().collect();
    let mut tested = 0;
    for Function { id, name, .. } in functions_of_the_api() {
        let properties = &resources[&id].properties;
        let guard = json!({"Fn::If": ["ShiftsTraffic", [{"Ref": format!("{id}Gate")}], [no_value]]});
        let mut expected = json!({"Alarms": guard});
        // The version that the test knows gets no requests before it has passed.
        if known_to_test.contains(&&json!({"Ref": format!("{id}.Version")})) {
            let test = json!({"Fn::If": ["TestsDeployments", {"Ref": "SmokeTest"}, no_value]});
            expected["Hooks"] = json!({"PreTraffic": test});
            tested += 1;
        }
        assert_eq!(properties["DeploymentPreference"], expected, "{id}");

        let version = json!({"Fn::GetAtt": format!("{id}.Version.Version")});
        let of_lambda = |metric: &str| {
            let dimensions = json!([
                {"Name": "FunctionName", "Value": {"Ref": id}},
                {"Name": "Resource", "Value": {"Fn::Sub": format!("${{{id}}}:live")}},
                {"Name": "ExecutedVersion", "Value": version},
            ]);
            json!({"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions})
        };
        let dimensions = json!([{"Name": "Event", "Value": name}, {"Name": "Version", "Value": version}]);
        let namespace = json!({"Ref": "AWS::StackName"});
        let internal =
            json!({"Namespace": namespace, "MetricName": "InternalErrors", "Dimensions": dimensions});
        let gate = &resources[&format!("{id}Gate")].properties;
        // An alarm that is in alarm already is not taken over from one version to the next.
        let name = format!("${{AWS::StackName}}-{id}Gate-${{{id}.Version.Version}}");
        assert_eq!(gate["AlarmName"], json!({"Fn::Sub": name}));
        let failed = "IF(SUM([errors, internal]) >= 5 AND SUM([errors, internal]) * 100 > invocations, 1, 0)";
        let mut expected = vec![json!({"Id": "failed", "Expression": failed})];
        for (id, metric) in [
            ("errors", of_lambda("Errors")),
            ("internal", internal),
            ("invocations", of_lambda("Invocations")),
        ] {
            let statistic = json!({"Period": 300, "Stat": "Sum", "Metric": metric});
            expected.push(json!({"Id": id, "ReturnData": false, "MetricStat": statistic}));
        }
        assert_eq!(gate["Metrics"], json!(expected), "{id}");
        assert_eq!(gate["Threshold"], json!({"Fn::If": ["GuardsDeployments", 1, 2]}), "{id}");
    }
    assert_eq!(tested, 4);
    // No other alarm stops a deployment, except that of the authorizer, and none does if traffic is not shifted gradually.
    let all = include_str!("../../../template.yaml").matches("Alarms: ").count();
    assert_eq!(all, functions_of_the_api().count() + 1);
    let gates = |template: Template| {
        let alarms = template.alarms().unwrap();
        alarms.into_keys().filter(|alarm| alarm.ends_with("Gate")).count()
    };
    assert_eq!((gates(guarded()), gates(template())), (all, 0));
}

#[test]
fn a_key_of_the_customer_encrypts_everything_that_is_kept() {
    let encrypted = with_parameters(&[("KMS_KEY_ARN", KEY), ("JWT_ALGORITHM", "RS256")]);
    let key = json!({"Fn::If": ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]});
    for (id, Resource { kind, properties, .. }) in encrypted.resources().unwrap() {
        let used = match kind.as_str() {
            "AWS::DynamoDB::Table" => &properties["SSESpecification"]["KMSMasterKeyId"],
            "AWS::SecretsManager::Secret" | "AWS::Logs::LogGroup" => &properties["KmsKeyId"],
            "AWS::SNS::Topic" => &properties["KmsMasterKeyId"],
            _ => continue,
        };
        assert_eq!(*used, key, "{id}");
    }
    // Functions may use it, but only through the services that hold their data.
    let uses = |function: &Function, service: &str| {
        function.statements.iter().any(|statement| {
            let of_service = BTreeSet::from([format!("{service}.eu-central-1.amazonaws.com")]);
            statement.actions.iter().any(|action| action == "kms:Decrypt")
                && statement.resources == [KEY]
                && statement.condition.holds(&BTreeMap::from([("kms:ViaService", of_service)]))
        })
    };
    for function in encrypted.functions().unwrap() {
        let services = ["dynamodb", "secretsmanager", "s3"].map(|service| uses(&function, service));
        // The pages hold no data.
        let uses_key = function.name != "pages";
        assert_eq!(services, [uses_key, uses_key, false], "{}", function.name);
    }
    // The policy of the key admits the log groups, by their names.
    let policy = include_str!("../../../key.yaml");
    for log_group in encrypted.log_group_names().unwrap() {
        let arn = format!("log-group:{}\n", log_group.replace("postern", "${StackName}"));
        assert!(policy.contains(&arn), "{arn}");
    }
    // Without one, there is no such right.
    let actions = functions().into_iter().flat_map(|function| function.statements);
    assert!(actions.flat_map(|statement| statement.actions).all(|action| !action.starts_with("kms:")));
}

#[test]
fn the_audit_trail_records_who_used_administration_the_secrets_and_the_users() {
    let resources = with_parameters(&[("AUDIT_TRAIL", "true")]).resources().unwrap();
    let trail = &resources[&"Trail".to_owned()].properties;
    assert_eq!((&trail["IsLogging"], &trail["EnableLogFileValidation"]), (&json!(true), &json!(true)));
    let mut selected = BTreeMap::new();
    for selector in trail["AdvancedEventSelectors"].as_array().unwrap() {
        let [category, kind, resources @ ..] = &selector["FieldSelectors"].as_array().unwrap()[..] else {
            panic!("{selector}")
        };
        selected.insert(category["Equals"][0].to_string() + &kind["Equals"][0].to_string(), resources);
    }
    // All calls of Secrets Manager are management events.
    assert!(selected[r#""Management"null"#].is_empty());
    let administration = functions().into_iter().filter(|f| ADMINISTRATION.contains(&f.name.as_str()));
    let arns: Vec<_> =
        administration.map(|function| json!({"Fn::GetAtt": format!("{}.Arn", function.id)})).collect();
    assert_eq!(selected[r#""Data""AWS::Lambda::Function""#][0]["StartsWith"], json!(arns));
    let tables = selected[r#""Data""AWS::DynamoDB::Table""#][0]["Equals"].as_array().unwrap();
    let own: Vec<_> = tables.iter().filter_map(|table| table["Fn::GetAtt"].as_str()).collect();
    assert_eq!(own, ["TableUsers.Arn", "TableUserIds.Arn"]);
    let restored: Vec<_> = tables.iter().filter_map(|table| table["Fn::If"][0].as_str()).collect();
    assert_eq!(restored, ["OwnUsersTable", "OwnUserIdsTable"]);

    // Only this trail may write to the bucket.
    let policy = &resources[&"TrailBucketPolicy".to_owned()].properties["PolicyDocument"]["Statement"];
    let mut allowed = policy.as_array().unwrap().clone();
    allowed.retain(|statement| statement["Effect"] == "Allow");
    assert_eq!(allowed.len(), 2);
    for statement in allowed {
        let source = statement["Condition"]["StringEquals"]["aws:SourceArn"]["Fn::Sub"].as_str().unwrap();
        assert!(source.ends_with(":trail/${AWS::StackName}-audit"), "{statement}");
    }
    assert_eq!(trail["TrailName"]["Fn::Sub"], "${AWS::StackName}-audit");
    // It costs money, so there is none by default.
    assert!(
        template().resources().unwrap().values().all(|resource| resource.kind != "AWS::CloudTrail::Trail")
    );
}

#[test]
fn the_brake_slows_recovery_while_wrong_codes_alarm_and_then_restores_the_limits() {
    let resources = with_parameters(&[("BRAKE", "true")]).resources().unwrap();
    let of = |id: &str| &resources[&id.to_owned()].properties;
    let limits = of("Api")["RouteSettings"].as_object().unwrap();
    let paths: BTreeSet<_> = limits.keys().map(String::as_str).collect();
    let routes = [SEND_EMAIL, CHECK_CODE, RESET_PASSWORD].map(|path| format!("POST {path}"));
    assert_eq!(paths, routes.iter().map(String::as_str).collect());
    let limit = json!({"Ref": "RecoveryRateLimit"});
    let own = json!({"ThrottlingRateLimit": limit, "ThrottlingBurstLimit": limit});
    assert!(limits.values().all(|settings| *settings == own), "{limits:?}");

    let definition = of("BrakeStateMachine")["DefinitionString"]["Fn::Sub"].as_str().unwrap();
    let machine: Value = serde_json::from_str(&definition.replace("${RecoveryRateLimit}", "5")).unwrap();
    let state_for = |alarm: &str| {
        let [choice] = &machine["States"]["IsAlarm"]["Choices"].as_array().unwrap()[..] else {
            panic!("{machine}")
        };
        let is_chosen = choice["Variable"] == "$.detail.state.value" && choice["StringEquals"] == alarm;
        let next = if is_chosen { &choice["Next"] } else { &machine["States"]["IsAlarm"]["Default"] };
        &machine["States"][next.as_str().unwrap()]["Parameters"]
    };
    for (alarm, limit) in [("ALARM", 1), ("OK", 5)] {
        let settings = json!({"ThrottlingRateLimit": limit, "ThrottlingBurstLimit": limit});
        let all: BTreeMap<&str, &Value> = routes.iter().map(|route| (route.as_str(), &settings)).collect();
        let expected = json!({"ApiId": "${Api}", "StageName": "$default", "RouteSettings": all});
        assert_eq!(*state_for(alarm), expected, "{alarm}");
    }
    let pattern = &of("BrakeRule")["EventPattern"];
    assert_eq!(pattern["resources"], json!([{"Fn::GetAtt": "WrongCodes.Arn"}]));
    assert_eq!(pattern["detail"]["state"]["value"], json!(["ALARM", "OK"]));
}

/// Administrators and AWS invoke them without the alias `live`, so there is nothing to shift.
#[test]
fn functions_without_traffic_on_their_alias_are_deployed_at_once() {
    let others = [&ADMINISTRATION[..], &["smoke_test"]].concat();
    let resources = template().resources().unwrap();
    for Function { id, name, .. } in functions() {
        let preference = &resources[&id].properties["DeploymentPreference"];
        let is_at_once = *preference == json!({"Enabled": false});
        assert_eq!(is_at_once, others.contains(&name.as_str()), "{name}: {preference}");
    }
}

#[test]
fn administration_can_have_concurrency_of_its_own() {
    let reserved = |template: Template| {
        let mut functions = template.functions().unwrap().into_iter();
        ["export_users", "manage_users", "rotate_jwt_secret", "signin"]
            .map(|name| functions.find(|function| function.name == name).unwrap().reserved_concurrency)
    };
    // A new account has ten, none of which Lambda lets a function reserve.
    assert_eq!(reserved(template()), [None; 4]);
    let reserving = with_parameters(&[("ADMINISTRATION_CONCURRENCY", "10")]);
    assert_eq!(reserved(reserving), [None, Some(10), Some(1), None]);
}

#[test]
fn the_runbook_states_how_long_traces_of_a_deleted_user_stay() {
    let (_, section) =
        include_str!("../../../RUNBOOK.md").split_once("\n## What deletion of a user leaves").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let days = template().parameter("LOG_RETENTION_DAYS").unwrap().default.clone().unwrap();
    assert_eq!(section.matches(&format!("`LogRetentionDays` ({days})")).count(), 2);
    // Point-in-time recovery reaches back 35 days unless told otherwise.
    assert!(
        section.contains("35 days")
            && !include_str!("../../../template.yaml").contains("RecoveryPeriodInDays")
    );
}

/// A token that a REST API refuses is an error of the function, which must not roll back a deployment.
#[test]
fn alarms_watch_the_failures_of_the_authorizer_but_not_its_errors() {
    let template = guarded();
    let resources = template.resources().unwrap();
    let guard = json!({"Fn::If": ["ShiftsTraffic", [{"Ref": "AuthorizerGate"}], [{"Ref": "AWS::NoValue"}]]});
    let properties = |id: &str| &resources[&id.to_owned()].properties;
    assert_eq!(properties("Authorizer")["DeploymentPreference"], json!({"Alarms": guard}));
    let metrics = properties("AuthorizerGate")["Metrics"].as_array().unwrap();
    let names: Vec<_> =
        metrics.iter().filter_map(|metric| metric["MetricStat"]["Metric"]["MetricName"].as_str()).collect();
    assert_eq!(names, ["InternalErrors", "Invocations"]);

    let errors = include_str!("../../../template.yaml").split("MetricName: Errors").skip(1);
    let watched: Vec<_> = errors
        .map(|metric| {
            let (_, function) = metric.split_once("{Name: FunctionName, Value: !Ref ").unwrap();
            function.split_once('}').unwrap().0
        })
        .collect();
    assert!(watched.contains(&"Sessions") && !watched.contains(&"Authorizer"), "{watched:?}");
}
