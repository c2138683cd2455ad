// expect: was given a temporary, which ends here
// max-lines: 16
#include <pulsar/core/future.hpp>

#include <string>

pulsar::future<const std::string&> name() { co_return "ann"; }
