//! Making Consul's policies and tokens.
//!
//! Consul itself makes the management token, from the configuration of the server that is first elected. The rest is made here, with
//! secrets that every node derives. Each step looks first at what there is, so that whoever leads can go on where another one stopped.

use serde::Deserialize;
use serde_json::json;

use super::{Client, Error, Secrets, secrets::Secret};

/// What a request without a token may: the page, and whoever asks for names.
const READ: Policy = Policy {
    name: "hcl-read",
    description: "Whoever gives no token: reads nodes and services",
    rules: "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\n",
};

/// What agents may: tell about their node and what runs on it. Any of them for any node: all have the cluster key.
const AGENT: Policy = Policy {
    name: "hcl-agent",
    description: "The agents: tell about nodes and services",
    rules: "node_prefix \"\" { policy = \"write\" }\nservice_prefix \"\" { policy = \"write\" }\n",
};

/// What `hcl-swarm` may: find engines, tell about containers, know who leads and who was removed. Nothing of that changes the cluster.
const SWARM: Policy = Policy {
    name: "hcl-swarm",
    description: "The cluster's Docker endpoint: tells about containers, reads who leads and who may use it",
    rules: "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"write\" }\n\
            key \"hcl/leader\" { policy = \"read\" }\nkey_prefix \"hcl/users/\" { policy = \"read\" }\n",
};

struct Policy {
    name: &'static str,
    description: &'static str,
    rules: &'static str,
}

/// Makes what is missing of policies and tokens, and mends what differs. Needs a leader of Consul's servers; `client` is asked with the
/// management token, whatever it has. Doing it again changes nothing.
///
/// # Errors
///
/// Consul did not, or did not say: to be tried again. Denied ([`Error::is_denied`]) while the elected server has not made the
/// management token yet, which takes a moment.
pub fn bootstrap(client: &Client, secrets: &Secrets) -> Result<(), Error> {
    let client = client.with_token(&secrets.management);
    for (policy, token) in [(AGENT, &secrets.agent), (SWARM, &secrets.swarm), (READ, &secrets.read)] {
        let id = make_policy(&client, &policy)?;
        make_token(&client, &policy, &id, token)?;
    }
    Ok(())
}

/// Whether the tokens of agents, of `hcl-swarm` and of whoever has none are there, and this node's agent takes them.
///
/// # Errors
///
/// Consul does not say.
pub fn is_ready(client: &Client, secrets: &Secrets) -> Result<bool, Error> {
    for token in [&secrets.agent, &secrets.swarm, &secrets.read] {
        if own(&client.with_token(token))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make_policy(client: &Client, policy: &Policy) -> Result<String, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Known {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default)]
        rules: String,
        name: String,
    }
    let wanted = json!({ "Name": policy.name, "Description": policy.description, "Rules": policy.rules });
    // The list says no rules.
    let listed: Vec<Known> = client.read("/v1/acl/policies")?;
    let Some(listed) = listed.into_iter().find(|known| known.name == policy.name) else {
        return Ok(client.done("PUT", "/v1/acl/policy", Some(&wanted))?.json::<Known>()?.id);
    };
    let path = format!("/v1/acl/policy/{}", listed.id);
    if client.read::<Known>(&path)?.rules != policy.rules {
        client.done("PUT", &path, Some(&wanted))?;
    }
    Ok(listed.id)
}

fn make_token(client: &Client, policy: &Policy, policy_id: &str, secret: &Secret) -> Result<(), Error> {
    let policies = json!([{ "ID": policy_id }]);
    match own(&client.with_token(secret))? {
        None => {
            let wanted =
                json!({ "SecretID": secret.reveal(), "Description": policy.description, "Policies": policies, "Local": false });
            client.done("PUT", "/v1/acl/token", Some(&wanted)).map(|_| ())
        }
        Some(token) if token.policies.iter().map(|link| link.id.as_str()).eq([policy_id]) => Ok(()),
        Some(token) => {
            let wanted = json!({ "AccessorID": token.accessor, "SecretID": secret.reveal(), "Description": policy.description, "Policies": policies });
            client.done("PUT", &format!("/v1/acl/token/{}", token.accessor), Some(&wanted)).map(|_| ())
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Token {
    #[serde(rename = "AccessorID")]
    accessor: String,
    #[serde(default)]
    policies: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "ID")]
    id: String,
}

/// The token that `client` is asked with; none where Consul does not know it.
fn own(client: &Client) -> Result<Option<Token>, Error> {
    match client.read("/v1/acl/token/self") {
        Ok(token) => Ok(Some(token)),
        Err(error) if error.is_denied() => Ok(None),
        Err(error) => Err(error),
    }
}
