//! `edge.yaml` fits the functions: what it sends to them, what it keeps, and what it adds.

use serde_json::{Value, json};
use support::template::parse_other;

use super::template::{functions, with_parameters};
use crate::helpers::{HEADERS, ORIGIN_SECRET, VIEWER_ADDRESS};

/// AWS's policy `CachingDisabled`
/// (<https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/using-managed-cache-policies.html>).
const CACHING_DISABLED: &str = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad";

/// The statuses of errors that `CloudFront` keeps
/// (<https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/HTTPStatusCodes.html>).
const KEPT_ERRORS: [u16; 11] = [400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504];

/// The rules about bodies of AWS's two groups
/// (<https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-baseline.html>).
const BODY_RULES: [&str; 8] = [
    "CrossSiteScripting_BODY",
    "EC2MetaDataSSRF_BODY",
    "GenericLFI_BODY",
    "GenericRFI_BODY",
    "SizeRestrictions_BODY",
    "JavaDeserializationRCE_BODY",
    "Log4JRCE_BODY",
    "ReactJSRCE_BODY",
];

/// The properties of a resource of `edge.yaml`.
fn properties(id: &str) -> Value {
    parse_other(include_str!("../../../edge.yaml")).unwrap()["Resources"][id]["Properties"].take()
}

/// The way in which the edge treats requests for a path.
fn behaviour(distribution: &Value, path: &str) -> Value {
    let mut behaviours = distribution["CacheBehaviors"].as_array().unwrap().iter();
    let matches = |behaviour: &&Value| {
        let pattern = behaviour["PathPattern"].as_str().unwrap();
        path.starts_with(pattern.strip_suffix('*').unwrap())
    };
    behaviours.find(matches).unwrap_or(&distribution["DefaultCacheBehavior"]).clone()
}

#[test]
fn the_functions_know_the_requests_of_the_edge() {
    let distribution = properties("Distribution")["DistributionConfig"].take();
    let [origin] = &distribution["Origins"].as_array().unwrap()[..] else { panic!("{distribution}") };
    let [header] = &origin["OriginCustomHeaders"].as_array().unwrap()[..] else { panic!("{origin}") };
    assert_eq!(header["HeaderName"].as_str().unwrap().to_lowercase(), ORIGIN_SECRET);
    let secret = "{{resolve:secretsmanager:${StackName}/origin-secret:SecretString}}";
    assert_eq!(header["HeaderValue"]["Fn::Sub"], secret);
    for function in functions() {
        assert_eq!(function.variables["ORIGIN_SECRET_ID"], "postern/origin-secret");
    }
    // There is a copy of the secret where the edge is.
    let stack = with_parameters(&[("EDGE", "optional")]).resources().unwrap();
    let replicas = json!([{"Region": "us-east-1"}]);
    let replicas = json!({"Fn::If": ["IsInUsEast1", {"Ref": "AWS::NoValue"}, replicas]});
    assert_eq!(stack[&"OriginSecret".to_owned()].properties["ReplicaRegions"], replicas);

    let forwarded = &properties("ForwardEverything")["OriginRequestPolicyConfig"];
    // Those of the client include Host and Authorization.
    assert_eq!(forwarded["HeadersConfig"]["HeaderBehavior"], "allViewerAndWhitelistCloudFront");
    let added = forwarded["HeadersConfig"]["Headers"][0].as_str().unwrap();
    assert_eq!(added.to_lowercase(), VIEWER_ADDRESS);
    assert_eq!(forwarded["QueryStringsConfig"]["QueryStringBehavior"], "all");
}

#[test]
fn the_edge_keeps_no_answer_under_api_and_no_error() {
    let distribution = properties("Distribution")["DistributionConfig"].take();
    for function in functions() {
        for route in function.routes {
            let behaviour = behaviour(&distribution, &route.path);
            let (cache, forwarded) = (&behaviour["CachePolicyId"], &behaviour["OriginRequestPolicyId"]);
            if route.path.starts_with("/api/") {
                assert_eq!(
                    (cache, forwarded),
                    (&json!(CACHING_DISABLED), &json!({"Ref": "ForwardEverything"}))
                );
                assert_eq!(behaviour["ViewerProtocolPolicy"], "https-only");
                assert!(behaviour["AllowedMethods"].as_array().unwrap().contains(&json!(route.method)));
            } else {
                let public = (&json!({"Ref": "CacheAsTold"}), &json!({"Ref": "ForwardHost"}));
                let page = (&json!(CACHING_DISABLED), &json!({"Ref": "ForwardEverything"}));
                assert!([public, page].contains(&(cache, forwarded)), "{}", route.path);
            }
        }
    }
    let times = &properties("CacheAsTold")["CachePolicyConfig"];
    assert_eq!((&times["MinTTL"], &times["DefaultTTL"]), (&json!(0), &json!(0)));
    let errors = KEPT_ERRORS.map(|status| json!({"ErrorCode": status, "ErrorCachingMinTTL": 0}));
    assert_eq!(distribution["CustomErrorResponses"], json!(errors));
}

#[test]
fn the_edge_adds_the_security_headers_of_the_functions_to_other_answers() {
    let policy = properties("ResponseHeaders")["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"].take();
    let transport = &policy["StrictTransportSecurity"];
    let age = &transport["AccessControlMaxAgeSec"];
    assert_eq!((&transport["IncludeSubdomains"], &transport["Override"]), (&json!(true), &json!(true)));
    let added = [
        ("x-content-type-options", "nosniff".to_owned()),
        ("strict-transport-security", format!("max-age={age}; includeSubDomains")),
        (
            "content-security-policy",
            policy["ContentSecurityPolicy"]["ContentSecurityPolicy"].as_str().unwrap().to_owned(),
        ),
        ("referrer-policy", policy["ReferrerPolicy"]["ReferrerPolicy"].as_str().unwrap().to_owned()),
    ];
    let of_functions = HEADERS.iter().filter(|(name, _)| *name != "cache-control");
    assert!(of_functions.map(|(name, value)| (*name, (*value).to_owned())).eq(added));
    // Pages have a policy of their own.
    assert_eq!(policy["ContentSecurityPolicy"]["Override"], false);
}

#[test]
fn the_firewall_refuses_no_body_for_its_content_or_its_size() {
    let rules = properties("Firewall")["Rules"].take();
    let overrides = rules.as_array().unwrap().iter().flat_map(|rule| {
        let group = &rule["Statement"]["ManagedRuleGroupStatement"];
        group["RuleActionOverrides"].as_array().into_iter().flatten()
    });
    let counted: Vec<_> = overrides.filter(|rule| rule["ActionToUse"] == json!({"Count": {}})).collect();
    for name in BODY_RULES {
        assert!(counted.iter().any(|rule| rule["Name"] == name), "{name}");
    }
}
