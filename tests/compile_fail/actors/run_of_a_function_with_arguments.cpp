// expect: run: app is called without arguments
// max-lines: 14
#include <pulsar/actors/run.hpp>

pulsar::future<> app(int, char**) { co_return; }

int main(int argc, char** argv) { return pulsar::run(argc, argv, app); }
