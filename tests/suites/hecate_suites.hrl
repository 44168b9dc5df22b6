%% The macros of common_test/include/ct.hrl that start a node, in calls of the driver.
-define(HECATE_PEER(Opts), hecate_suites:start_peer(Opts, ?MODULE, ?FUNCTION_NAME)).
-define(HECATE_PEER(), ?HECATE_PEER([])).
-define(HECATE_PEER(Opts, Release, Dir),
        test_server:start_peer(Opts, ?MODULE, ?FUNCTION_NAME, Release, Dir)).
