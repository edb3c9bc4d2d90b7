use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Process, Workplace, free_port, process::wait_until_ready, workspace};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// The nodes of a cluster.
const CLUSTER: [&str; 3] = ["tocsin1", "tocsin2", "tocsin3"];

/// The administrator of a private broker. Installations have none: definitions.json declares none.
const ADMIN: &str = "admin";
/// Of the password `admin-development`.
const ADMIN_HASH: &str = "WhfAntfZMUqdL1Yra8qOlEp+87etjrtVC/NZW2Ivv9ZrlAWE";

/// A private RabbitMQ with its management plugin, listening on 127.0.0.1 only.
pub struct RabbitMq {
    dir: PathBuf,
    node: String,
    amqp_port: u16,
    management_port: u16,
    distribution_port: u16,
    epmd_port: u16,
    /// The port mapper of a cluster, which outlives each of its nodes. A single node starts one of its own.
    cluster_epmd: Option<Arc<Process>>,
    processes: Mutex<Option<Processes>>,
}

struct Processes {
    server: Process,
    /// Ended by being dropped, after the server.
    _epmd: Option<Process>,
}

impl RabbitMq {
    /// Starts it, with what rabbitmq/definitions.json declares.
    pub fn start(workplace: &Workplace) -> Result<Self> {
        let dir = workplace.dir().join("rabbitmq");
        fs::create_dir_all(dir.join("home"))?;
        let rabbitmq = Self::new(dir, "tocsin@localhost".to_owned(), free_port()?, None)?;
        let definitions = definitions()?;
        // It stands there once the broker has imported it: after a first start that failed all begins anew.
        let imported = rabbitmq.dir.join("definitions.json");
        let is_new = !imported.exists();
        let to_load = rabbitmq.dir.join("definitions-to-load.json");
        if is_new {
            let data = rabbitmq.dir.join("data");
            if data.exists() {
                fs::remove_dir_all(data)?;
            }
            fs::write(&to_load, &definitions)?;
        }
        write_cookie(&rabbitmq.dir.join("home"))?;
        let load = is_new.then(|| format!("load_definitions = {}\n", to_load.display()));
        // Only at the first start: a later one would hang on queues that have no leader yet.
        rabbitmq.write_configuration(&load.unwrap_or_default())?;
        rabbitmq.run(workplace)?;
        if is_new {
            fs::write(&imported, &definitions)?;
        } else if fs::read_to_string(&imported)? != definitions {
            // Right after its start the broker has no leaders for its queues, and would hang on this for 30 s.
            sleep(Duration::from_secs(2));
            rabbitmq.import(&definitions)?;
            fs::write(&imported, &definitions)?;
        }
        Ok(rabbitmq)
    }

    /// Its first process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        let processes = self.processes.lock().expect("nobody panics while holding this lock");
        processes.as_ref().map(|processes| processes.server.pid())
    }

    /// Starts three nodes as one cluster, each with a copy of every queue.
    pub fn start_cluster(workplace: &Workplace) -> Result<Vec<Self>> {
        let dir = workplace.dir().join("rabbitmq");
        fs::create_dir_all(dir.join("home"))?;
        write_cookie(&dir.join("home"))?;
        let epmd_port = free_port()?;
        let epmd = Arc::new(start_epmd(workplace, epmd_port, &dir.join("epmd.log"))?);
        let names = CLUSTER.map(|name| format!("{name}@localhost"));
        let node = |name: &String| {
            let node_dir = dir.join(name.trim_end_matches("@localhost"));
            fs::create_dir_all(&node_dir)?;
            std::os::unix::fs::symlink(dir.join("home"), node_dir.join("home"))?;
            Self::new(node_dir, name.clone(), epmd_port, Some(Arc::clone(&epmd)))
        };
        let nodes = names.iter().map(node).collect::<Result<Vec<_>>>()?;
        let mut peers = "cluster_formation.peer_discovery_backend = classic_config\n\
                         cluster_partition_handling = pause_minority\n"
            .to_owned();
        for (n, name) in (1..).zip(&names) {
            peers.push_str(&format!("cluster_formation.classic_config.nodes.{n} = {name}\n"));
        }
        // One after the other, as nodes that start at once may each form a cluster of their own.
        for node in &nodes {
            node.write_configuration(&peers)?;
            node.run(workplace)?;
        }
        nodes[0].control(&["await_online_nodes", "3"])?;
        // A queue gets its copies on the nodes that are there when it is declared, so only now.
        let definitions_path = dir.join("definitions.json");
        fs::write(&definitions_path, definitions()?)?;
        nodes[0].control(&["import_definitions", &definitions_path.display().to_string()])?;
        Ok(nodes)
    }

    fn new(dir: PathBuf, node: String, epmd_port: u16, cluster_epmd: Option<Arc<Process>>) -> Result<Self> {
        Ok(Self {
            dir,
            node,
            amqp_port: free_port()?,
            management_port: free_port()?,
            distribution_port: free_port()?,
            epmd_port,
            cluster_epmd,
            processes: Mutex::new(None),
        })
    }

    /// Its name in the cluster.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`], on the same ports.
    pub fn run(&self, workplace: &Workplace) -> Result<()> {
        let log_path = self.dir.join("output.log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let epmd = match &self.cluster_epmd {
            Some(_) => None,
            None => Some(start_epmd(workplace, self.epmd_port, &log_path)?),
        };
        let mut server = Command::new(SERVER);
        server
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .env("HOME", self.dir.join("home"))
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.dir.join("data"))
            .env("RABBITMQ_LOG_BASE", self.dir.join("log"))
            .env("RABBITMQ_PID_FILE", self.dir.join("pid"))
            .env("RABBITMQ_CONFIG_FILE", self.dir.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", workspace().join("rabbitmq/enabled_plugins"))
            .env("RABBITMQ_SERVER_START_ARGS", "-noinput +B i")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .stdout(log.try_clone()?)
            .stderr(log);
        let server = workplace.spawn("rabbitmq", &mut server)?;
        let ready = format!("health/checks/port-listener/{}", self.amqp_port);
        // A new cluster has no administrator to ask with until the definitions are imported.
        wait_until_ready(&server, &log_path, Duration::from_secs(180), || match self.cluster_epmd {
            Some(_) => TcpStream::connect(("127.0.0.1", self.amqp_port)).is_ok(),
            None => self.get(&ready).is_ok(),
        })?;
        let processes = Processes { server, _epmd: epmd };
        *self.processes.lock().expect("nobody panics while holding this lock") = Some(processes);
        Ok(())
    }

    fn write_configuration(&self, further: &str) -> Result<()> {
        let conf = format!(
            "listeners.tcp.local = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             collect_statistics_interval = 1000\ndisk_free_limit.absolute = 50MB\n\
             vm_memory_high_watermark.absolute = 1GB\nlog.file.level = warning\nlog.console = false\n{further}",
            self.amqp_port, self.management_port
        );
        Ok(fs::write(self.dir.join("rabbitmq.conf"), conf)?)
    }

    /// `127.0.0.1:port` of AMQP.
    pub fn amqp(&self) -> String {
        format!("127.0.0.1:{}", self.amqp_port)
    }

    /// The management UI.
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }

    /// Stops it.
    pub fn stop(&self) {
        if let Some(processes) = self.processes.lock().expect("nobody panics while holding this lock").take() {
            // Dropping the processes kills what did not stop.
            drop(processes.server.stop(Signal::TERM, Duration::from_secs(20)));
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(&self) {
        if let Some(processes) = self.processes.lock().expect("nobody panics while holding this lock").take() {
            drop(processes.server.kill());
        }
    }

    /// Runs rabbitmqctl on it.
    pub fn control(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(CONTROL)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .env("HOME", self.dir.join("home"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Value> {
        management(&self.management_url(), "GET", path, None)
    }

    fn import(&self, definitions: &str) -> Result<()> {
        let body = serde_json::from_str(definitions)?;
        management(&self.management_url(), "POST", "definitions", Some(&body)).map(drop)
    }
}

/// The port mapper, by which nodes and rabbitmqctl find each other.
fn start_epmd(workplace: &Workplace, port: u16, log_path: &Path) -> Result<Process> {
    let log = File::options().create(true).append(true).open(log_path)?;
    let mut epmd = Command::new("epmd");
    epmd.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    workplace.spawn("epmd", epmd.stdout(log.try_clone()?).stderr(log))
}

/// The secret by which the nodes of a cluster, and rabbitmqctl, know each other.
fn write_cookie(home: &Path) -> Result<()> {
    let cookie = home.join(".erlang.cookie");
    if !cookie.exists() {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        fs::write(&cookie, random.trim().replace('-', "").to_uppercase())?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    }
    Ok(())
}

/// Asks a private broker's management API, as its administrator.
pub fn management(url: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().new_agent();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{url}/api/{path}"))
        .header("authorization", "Basic YWRtaW46YWRtaW4tZGV2ZWxvcG1lbnQ=")
        .header("content-type", "application/json")
        .body(body.map(Value::to_string).unwrap_or_default())?;
    let mut response = agent.run(request).with_context(|| format!("{method} {path}"))?;
    let text = response.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// What the project declares, and an administrator.
fn definitions() -> Result<String> {
    let text = fs::read_to_string(workspace().join("rabbitmq/definitions.json"))?;
    let mut definitions: Value = serde_json::from_str(&text).context("rabbitmq/definitions.json")?;
    let admin = json!({
        "name": ADMIN, "password_hash": ADMIN_HASH, "tags": "administrator",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
    });
    definitions["users"].as_array_mut().context("users")?.push(admin);
    let everything = json!({"user": ADMIN, "vhost": "tocsin", "configure": ".*", "write": ".*", "read": ".*"});
    definitions["permissions"].as_array_mut().context("permissions")?.push(everything);
    Ok(serde_json::to_string_pretty(&definitions)?)
}

/// Whether the server is installed.
pub(crate) fn is_installed() -> bool {
    PathBuf::from(SERVER).exists()
        && Command::new("epmd").arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
