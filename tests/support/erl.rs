//! A real Erlang node, driven over its standard input and output.
//!
//! One process of the node evaluates all expressions. So monitors, links, names and the process
//! dictionary persist from one expression to the next. An expression and its value are each one
//! line of hexadecimal, which differs from anything else that the node prints.

use std::cell::RefCell;
use std::fmt::{Write as _, from_fn};
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Host, Output, PATIENCE, Process, wait_within};

const INSTALL: &str = "Install Erlang/OTP (Debian: apt-get install erlang-base)";

/// The start of a line that contains an answer.
const MARK: &str = "=answer ";

/// Ends when standard input is closed, so that no node outlives its test.
const EVALUATOR: &str = r#"
    Evaluate = fun(Line) ->
        try
            Source = unicode:characters_to_list(binary:decode_hex(list_to_binary(string:trim(Line)))),
            {ok, Tokens, _} = erl_scan:string(Source ++ "."),
            {ok, Expressions} = erl_parse:parse_exprs(Tokens),
            {value, Value, _} = erl_eval:exprs(Expressions, []),
            {"ok ", Value}
        catch
            Class:Reason -> {"error ", {Class, Reason}}
        end
    end,
    Loop = fun Loop() ->
        case io:get_line(user, "") of
            Line when is_list(Line) ->
                {Outcome, Term} = Evaluate(Line),
                Text = unicode:characters_to_binary(io_lib:format("~0tp", [Term])),
                io:put_chars(user, ["\n=answer ", Outcome, binary:encode_hex(Text), "\n"]),
                Loop();
            _ -> erlang:halt(0)
        end
    end,
    spawn(Loop)."#;

/// How to start a node.
#[derive(Default)]
pub struct Start<'a> {
    /// The name. Without one, `erl` is not a node.
    pub name: Option<&'a str>,
    /// The cookie, if not the host's.
    pub cookie: Option<&'a str>,
    /// The program, if not the `erl` in `PATH`.
    pub program: Option<&'a str>,
    /// The program that starts it, with its arguments.
    pub through: &'a [&'a str],
    /// More arguments.
    pub args: &'a [&'a str],
    /// The user that it runs as, if not the test's. Needs root.
    pub uid: Option<u32>,
}

/// A running node.
pub struct Erl {
    process: Process,
    stdin: ChildStdin,
    answers: Receiver<String>,
    output: Output,
    name: String,
}

impl Erl {
    /// Starts a node, and waits until it can evaluate expressions.
    pub fn start(host: &Host, start: Start<'_>) -> Self {
        let id = start.uid.unwrap_or_default().to_string();
        let as_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        let through = if start.uid.is_some() { &as_user } else { start.through };
        let mut words = through.iter().copied().chain([start.program.unwrap_or("erl")]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).args(["-noshell", "-start_epmd", "false", "+S", "1"]);
        if let Some(name) = start.name {
            // A host part with a dot requires long names.
            let kind = if name.split('@').nth(1).is_some_and(|host| host.contains('.')) { "-name" } else { "-sname" };
            command.args([kind, name, "-setcookie", start.cookie.unwrap_or(&host.cookie)]);
        }
        command
            .args(start.args)
            .args(["-eval", EVALUATOR])
            .env("HOME", host.home())
            .env("ERL_EPMD_PORT", host.epmd_port.to_string())
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = Process::start(&mut command, INSTALL);
        let stdin = process.pipes().stdin.take().unwrap();
        let stdout = process.pipes().stdout.take().unwrap();
        let (sender, answers) = channel();
        let output = Output::collect(stdout, move |line| match line.strip_prefix(MARK) {
            Some(answer) => {
                let _ = sender.send(answer.trim_end().to_owned());
                None
            }
            None => Some(line),
        });
        let name = start.name.unwrap_or("erl").to_owned();
        let mut erl = Self { process, stdin, answers, output, name };
        assert_eq!(erl.eval("1 + 1"), "2");
        erl
    }

    /// Returns the value of an expression, in the format of `~0tp` in `io:format/2`.
    ///
    /// # Panics
    /// The expression raises an exception, which the message shows.
    pub fn eval(&mut self, expression: &str) -> String {
        match self.try_eval(expression) {
            Ok(value) => value,
            Err(error) => panic!("{}: {expression} failed with {error}\n{}", self.name, self.output.text()),
        }
    }

    /// Connects to a node, and checks that it answers.
    #[track_caller]
    pub fn pings(&mut self, node: &str) {
        assert_eq!(self.eval(&format!("net_adm:ping('{node}')")), "pong", "{} pings {node}", self.name);
    }

    /// Evaluates an expression until its value is `expected`. An exception is a different value.
    pub fn eval_until(&mut self, expression: &str, expected: &str, deadline: Duration) {
        let (name, last) = (self.name.clone(), RefCell::new(String::new()));
        let what = from_fn(|f| write!(f, "{name}: {expression} is {}, not {expected}", last.borrow()));
        wait_within(deadline, what, || {
            last.replace(self.try_eval(expression).unwrap_or_else(|error| format!("exception {error}")));
            (*last.borrow() == expected).then_some(())
        });
    }

    /// Evaluates an expression until its value is not in `others`, and returns the value.
    pub fn eval_other(&mut self, expression: &str, others: &[&str]) -> String {
        wait_within(PATIENCE, format!("{expression} is not in {others:?}"), || {
            Some(self.eval(expression)).filter(|value| !others.contains(&value.as_str()))
        })
    }

    /// Returns the pid of the node, or of the program that started it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGSTOP: the node stops working, and its connections stay open.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Sends SIGKILL.
    pub fn kill(mut self) {
        self.process.kill();
    }

    fn try_eval(&mut self, expression: &str) -> Result<String, String> {
        let mut line = String::new();
        for byte in expression.bytes() {
            write!(line, "{byte:02x}").unwrap();
        }
        let sent = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        sent.unwrap_or_else(|e| panic!("{} has ended: {e}\n{}", self.name, self.output.text()));
        let answer = self.answers.recv_timeout(PATIENCE);
        let answer = answer.unwrap_or_else(|e| panic!("{}: {expression}: {e}\n{}", self.name, self.output.text()));
        let (outcome, hex) = answer.split_once(' ').expect("outcome and value");
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
        let text = String::from_utf8(bytes).expect("UTF-8");
        if outcome == "ok" { Ok(text) } else { Err(text) }
    }
}
