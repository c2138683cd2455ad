// expect: run: app must return future<>: it gives the program.s exit code
// max-lines: 14
#include <pulsar/actors/run.hpp>

pulsar::future<int> app() { co_return 3; }

int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
