//! A real Erlang node, driven over its standard input and output.
//!
//! One process of it evaluates one expression after another, so that what an expression monitors, links to, registers
//! or puts into the process dictionary is there for the next. An expression and its value travel as one line of
//! hexadecimal each, so that nothing else that the node prints can be taken for either.

use std::cell::RefCell;
use std::fmt::{Write as _, from_fn};
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Host, Output, PATIENCE, Process, wait_within};

const INSTALL: &str = "Install Erlang/OTP (Debian: apt-get install erlang-base)";

/// Marks the line of an answer.
const MARK: &str = "=answer ";

/// Ends with standard input, so that no node outlives the test that started it.
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
    /// Its name; without, it is no node.
    pub name: Option<&'a str>,
    /// Its cookie, if not the host's.
    pub cookie: Option<&'a str>,
    /// The program, if not the `erl` of the `PATH`.
    pub program: Option<&'a str>,
    /// A program that starts it, and the arguments of that.
    pub through: &'a [&'a str],
    /// More arguments.
    pub args: &'a [&'a str],
    /// The user that it runs as, if not ours. Needs root.
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
    /// Starts it, and waits until it evaluates.
    pub fn start(host: &Host, start: Start<'_>) -> Self {
        let id = start.uid.unwrap_or_default().to_string();
        let as_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        let through = if start.uid.is_some() { &as_user } else { start.through };
        let mut words = through.iter().copied().chain([start.program.unwrap_or("erl")]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).args(["-noshell", "-start_epmd", "false", "+S", "1"]);
        if let Some(name) = start.name {
            // A dot in the host part makes names long.
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

    /// The value of an expression, as `~0tp` of `io:format/2` writes it.
    ///
    /// # Panics
    /// It has none: the exception is shown.
    pub fn eval(&mut self, expression: &str) -> String {
        match self.try_eval(expression) {
            Ok(value) => value,
            Err(error) => panic!("{}: {expression} gave {error}\n{}", self.name, self.output.text()),
        }
    }

    /// Connects to a node, which must answer.
    #[track_caller]
    pub fn pings(&mut self, node: &str) {
        assert_eq!(self.eval(&format!("net_adm:ping('{node}')")), "pong", "{} pings {node}", self.name);
    }

    /// Evaluates until the value is `expected`. An exception counts as another value.
    pub fn eval_until(&mut self, expression: &str, expected: &str, deadline: Duration) {
        let (name, last) = (self.name.clone(), RefCell::new(String::new()));
        let what = from_fn(|f| write!(f, "{name}: {expression} is {} and not {expected}", last.borrow()));
        wait_within(deadline, what, || {
            last.replace(self.try_eval(expression).unwrap_or_else(|error| format!("exception {error}")));
            (*last.borrow() == expected).then_some(())
        });
    }

    /// The value of an expression as soon as it differs from all of `others`.
    pub fn eval_other(&mut self, expression: &str, others: &[&str]) -> String {
        wait_within(PATIENCE, format!("{expression} is none of {others:?}"), || {
            Some(self.eval(expression)).filter(|value| !others.contains(&value.as_str()))
        })
    }

    /// The pid of what was started: of the node, or of the program that started it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGSTOP: it does nothing any more, and its connections stay open.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill();
    }

    fn try_eval(&mut self, expression: &str) -> Result<String, String> {
        let mut line = String::new();
        for byte in expression.bytes() {
            write!(line, "{byte:02x}").unwrap();
        }
        let sent = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        sent.unwrap_or_else(|e| panic!("{} is gone: {e}\n{}", self.name, self.output.text()));
        let answer = self.answers.recv_timeout(PATIENCE);
        let answer = answer.unwrap_or_else(|e| panic!("{}: {expression}: {e}\n{}", self.name, self.output.text()));
        let (outcome, hex) = answer.split_once(' ').expect("outcome and value");
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
        let text = String::from_utf8(bytes).expect("UTF-8");
        if outcome == "ok" { Ok(text) } else { Err(text) }
    }
}
