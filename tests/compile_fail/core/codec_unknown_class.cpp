// expect: does not know how this type travels: write pulsar_fields
// expect: session
// expect: login
// max-lines: 21
#include <pulsar/core/codec.hpp>

#include <string>
#include <vector>

class session {
 public:
  int id() const { return id_; }

 private:
  int id_ = 0;
};
struct login {
  std::string user;
  std::vector<session> open;
};

void f(pulsar::buffer& out, const login& l) { encode(out, l); }
