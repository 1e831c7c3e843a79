use super::*;

#[test]
fn an_empty_file_is_the_default() {
    let config: NodeConfig = "".parse().unwrap();
    assert_eq!(config, NodeConfig::default());
    assert_eq!(config.vlan, Vlan::Id(VlanId::DEFAULT));
    assert_eq!(config.addresses.leader().to_string(), "192.168.200.1");
    assert_eq!(config.addresses.subnet().broadcast().to_string(), "192.168.200.255");
    assert_eq!(config.lease.as_secs(), 3600);
}

#[test]
fn what_is_written_reads_back() {
    let other = r#"
        cluster = "attic-2"
        hostname = "pi3"
        interface = "enx00e04c680001"
        vlan = "off"
        subnet = "10.7.0.0/16"
        leader = 300
        members = "1000-2000"
        strangers = "3000-65534"
        lease = "90m"
    "#;
    for config in [NodeConfig::default(), other.parse().unwrap()] {
        let text = config.to_toml();
        assert_eq!(text.parse::<NodeConfig>().unwrap(), config, "{text}");
        let keys: toml::Table = toml::from_str(&text).unwrap();
        let again = NodeConfig::deserialize(toml::Value::try_from(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        assert_eq!(toml::Value::try_from(&config).unwrap(), toml::Value::Table(keys), "to_toml writes every key");
    }
}

#[test]
fn bad_values_are_named() {
    let table = [
        ("vlan = 0", "n:1: key `vlan`: invalid value: integer `0`, expected a VLAN id from 1 to 4094, or \"off\""),
        ("vlan = 4095", "n:1: key `vlan`: invalid value: integer `4095`, expected a VLAN id from 1 to 4094, or \"off\""),
        ("vlan = -1", "n:1: key `vlan`: invalid value: integer `-1`, expected a VLAN id"),
        ("vlan = \"on\"", "n:1: key `vlan`: invalid value: string \"on\", expected a VLAN id"),
        ("vlan = true", "n:1: key `vlan`: invalid type: boolean `true`, expected a VLAN id"),
        ("\n\nvlam = 3", "n:3: key `vlam`: unknown field `vlam`, expected one of `cluster`, `hostname`, `interface`, `vlan`"),
        ("cluster = \"\"", "n:1: key `cluster`: invalid value: string \"\", expected a cluster name of 1 to 32"),
        ("cluster = \"My Lab\"", "string \"My Lab\", expected a cluster name"),
        ("cluster = \"../lab\"", "string \"../lab\", expected a cluster name"),
        ("cluster = \"lab-\"", "string \"lab-\", expected a cluster name"),
        ("hostname = \"master\"", "string \"master\", expected \"auto\" or a host name"),
        ("hostname = \"a.b\"", "string \"a.b\", expected \"auto\" or a host name"),
        ("hostname = 3", "n:1: key `hostname`: invalid type: integer `3`, expected \"auto\" or a host name"),
        ("interface = \"averyverylongname\"", "string \"averyverylongname\", expected \"auto\" or an interface name"),
        ("interface = \"eth/0\"", "string \"eth/0\", expected"),
        ("interface = \"eth 0\"", "string \"eth 0\", expected"),
        ("subnet = \"192.168.200.1/24\"", "string \"192.168.200.1/24\", expected a private IPv4 network"),
        ("subnet = \"8.8.8.0/24\"", "expected a private IPv4 network from /16 to /28"),
        ("subnet = \"10.0.0.0/8\"", "expected a private IPv4 network from /16 to /28"),
        ("subnet = \"192.168.200.0\"", "expected a private IPv4 network from /16 to /28"),
        (
            "subnet = \"192.168.200.0/28\"",
            "n: key `members`: 10-199 does not lie in `subnet` 192.168.200.0/28: allowed are numbers from 1 to 14",
        ),
        ("leader = 0", "n: key `leader`: 0 is no host address of `subnet` 192.168.200.0/24: allowed are 1 to 254"),
        ("leader = 255", "n: key `leader`: 255 is no host address"),
        ("leader = 11", "n: key `members`: 10-199 contains `leader` 11"),
        ("members = \"199-10\"", "n:1: key `members`: invalid value: string \"199-10\", expected \"first-last\""),
        ("members = \"0-10\"", "expected \"first-last\""),
        ("members = \"10-200\"", "n: keys `members` 10-200 and `strangers` 200-254 overlap"),
        ("strangers = \"200-255\"", "n: key `strangers`: 200-255 does not lie in `subnet`"),
        ("lease = \"1\"", "n:1: key `lease`: invalid value: string \"1\", expected a lease time from \"2m\" to \"7d\""),
        ("lease = \"119s\"", "expected a lease time"),
        ("lease = \"8d\"", "expected a lease time"),
        ("lease = \"99999999d\"", "expected a lease time"),
        ("vlan = ", "n:1: key `vlan`"),
        ("vlan = 200\nvlan = 201", "n:2: key `vlan`: duplicate key"),
    ];
    for (text, expected) in table {
        let error = NodeConfig::parse(text, "n").expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?} gave\n  {error}\nnot\n  {expected}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = NodeConfig::read(Path::new("/nonexistent/node.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/node.toml: No such file"), "{error}");
}

#[test]
fn lease_times_print_as_they_are_written() {
    for text in ["2m", "150s", "1h", "90m", "7d"] {
        assert_eq!(text.parse::<LeaseTime>().unwrap().to_string(), text);
    }
}

#[test]
fn subnets() {
    let subnet: Subnet = "172.16.4.0/22".parse().unwrap();
    assert_eq!(subnet.address(1).unwrap().to_string(), "172.16.4.1");
    assert_eq!(subnet.address(1022).unwrap().to_string(), "172.16.7.254");
    assert_eq!(subnet.address(1023), None);
    assert_eq!(subnet.address(0), None);
    assert_eq!(subnet.number("172.16.7.254".parse().unwrap()), 1022);
    assert!(subnet.contains("172.16.7.9".parse().unwrap()));
    assert!(!subnet.contains("172.16.8.1".parse().unwrap()));
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_has_every_key() {
    let schema = schemars::schema_for!(NodeConfig);
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let keys: toml::Table = toml::from_str(&NodeConfig::default().to_toml()).unwrap();
    for key in keys.keys() {
        assert!(properties[key].get("description").is_some(), "{key} has no description");
    }
    assert_eq!(properties.len(), keys.len());
    assert_eq!(schema.get("additionalProperties").unwrap(), false);
}
