//! A counter that Erlang nodes call and cast to.
//!
//! ```text
//! gen_server OUR_NAME@HOST COOKIE
//! ```
//!
//! ```erlang
//! gen_server:cast({counter, 'our_name@host'}, {add, 2}),
//! 2 = gen_server:call({counter, 'our_name@host'}, get).
//! ```

use beam::{Answer, Caller, GenServer, Node, Source, Term};

#[path = "support/mod.rs"]
mod support;

#[derive(Default)]
struct Counter {
    count: i64,
}

impl GenServer for Counter {
    fn handle_call(&mut self, request: Term, _from: &Caller) -> Answer {
        if request == Term::atom("get") {
            Answer::Now(Term::Int(self.count))
        } else {
            Answer::Now(Term::tuple([Term::atom("error"), Term::atom("badarg")]))
        }
    }

    fn handle_cast(&mut self, request: Term, _from: &Source) {
        if let Term::Tuple(elements) = request
            && let [add, Term::Int(by)] = elements.as_slice()
            && *add == Term::atom("add")
        {
            self.count = self.count.wrapping_add(*by);
        }
    }

    fn handle_info(&mut self, message: Term, _from: &Source) {
        println!("message {message:?}");
    }

    fn state(&self) -> Term {
        Term::Int(self.count)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [name, cookie] = support::arguments("OUR_NAME@HOST COOKIE")?;
    let node = Node::builder(&name, &cookie).epmd_port(support::epmd_port()?).start().await?;
    node.process(Counter::default()).name("counter").spawn().await?;
    println!("ready");
    tokio::signal::ctrl_c().await?;
    node.stop().await;
    Ok(())
}
