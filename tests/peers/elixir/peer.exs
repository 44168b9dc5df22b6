# An Elixir node. It dials the daemon or waits for it, and then uses all services that any node can
# use.
#
#     elixir --sname NAME --cookie COOKIE peer.exs dial|wait NODE-OF-THE-DAEMON
#
# Prints one line for each result. Exits with 0 if all results are as expected. A failing match exits
# with 1.

defmodule Peer do
  @patience 20_000

  def until(what, left \\ 2000) do
    cond do
      value = what.() -> value
      left > 0 ->
        Process.sleep(10)
        until(what, left - 1)
    end
  end

  def meet("dial", us), do: true = Node.connect(us)
  def meet("wait", us), do: until(fn -> us in Node.list() end)

  def run([way, us]) do
    us = String.to_atom(us)
    meet(way, us)
    IO.puts("connected")
    :pong = Node.ping(us)
    IO.puts("pong")

    {:ok, plugins} = GenServer.call({:hecate_plugins, us}, :list)
    for %{name: name} <- plugins, do: IO.puts("plugin #{name}")
    IO.puts("base_dir #{:erpc.call(us, :shared_paths, :base_dir, [])}")
    {:badrpc, {:EXIT, {:undef, _}}} = :rpc.call(us, :no_module, :function, [])
    send({:nobody, us}, :hello)

    {:ok, _} = :pg.start_link()
    proxy = until(fn -> List.first(:pg.get_members({:hecate_plugin, "hecate-traderd"})) end)
    %{name: "hecate-traderd"} = GenServer.call(proxy, :info)
    :ok = :pg.join(:elixir, self())
    :ok = :global.sync()
    IO.puts("groups #{length(:pg.which_groups())}")

    Process.flag(:trap_exit, true)
    Process.link(proxy)
    monitor = Process.monitor(proxy)
    :ok = GenServer.stop(proxy, :enough)
    receive do {:EXIT, ^proxy, :enough} -> IO.puts("exit enough") after @patience -> exit(:no_exit) end
    receive do {:DOWN, ^monitor, :process, ^proxy, :enough} -> IO.puts("down enough") after @patience -> exit(:no_down) end
    until(fn -> match?([again] when again != proxy, :pg.get_members({:hecate_plugin, "hecate-traderd"})) end)
    :pong = Node.ping(us)
    IO.puts("pong")
  end
end

Peer.run(System.argv())
