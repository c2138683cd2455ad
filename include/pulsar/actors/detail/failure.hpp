// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Failures between threads and processes: an exception is taken apart where it was thrown and put
// together again, as the same type where that is known, where it is to be seen.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/core/error.hpp>

#include <asio/error.hpp>
#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <typeinfo>
#include <variant>

namespace pulsar::detail {

inline std::string type_name(const std::type_info& type) {
  struct demangled {
    ~demangled() { std::free(text); }
    char* text;
  };
  const demangled name{abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr)};
  return name.text != nullptr ? name.text : type.name();
}

/// The categories that every process knows; null for others.
inline const std::error_category* category_of(std::string_view name) noexcept {
  for (const std::error_category* known :
       {&error_category(), &std::system_category(), &std::generic_category(),
        &static_cast<const std::error_category&>(asio::error::get_misc_category()),
        &static_cast<const std::error_category&>(asio::error::get_netdb_category()),
        &static_cast<const std::error_category&>(asio::error::get_addrinfo_category())}) {
    if (name == known->name()) return known;
  }
  return nullptr;
}

inline remote_failure take_apart(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const command_error& e) {
    return {e.type(), "pulsar", static_cast<int>(errc::command_failed), e.text()};
  } catch (const std::system_error& e) {
    std::string text = e.what();
    const std::string tail = e.code().message();
    if (category_of(e.code().category().name()) == nullptr) return {type_name(typeid(e)), "", 0, text};
    // The code's own text is appended again at the other end.
    if (text == tail) {
      text.clear();
    } else if (text.ends_with(": " + tail)) {
      text.resize(text.size() - tail.size() - 2);
    }
    return {type_name(typeid(e)), e.code().category().name(), e.code().value(), std::move(text)};
  } catch (const std::exception& e) {
    return {type_name(typeid(e)), "", 0, e.what()};
  } catch (...) {
    const auto* type = abi::__cxa_current_exception_type();
    return {type != nullptr ? type_name(*type) : "unknown", "", 0, "no text"};
  }
}

/// Throws it as what it was, where that is known, else as a `command_error`.
[[noreturn]] inline void throw_together(const remote_failure& f) {
  if (f.category == "pulsar") {
    if (f.value == static_cast<int>(errc::command_failed)) throw command_error(f.type, f.text);
    const auto code = make_error_code(static_cast<errc>(f.value));
    if (f.text.empty()) throw error(code);
    throw error(code, f.text);
  }
  if (const auto* category = f.category.empty() ? nullptr : category_of(f.category)) {
    const std::error_code code(f.value, *category);
    if (f.text.empty()) throw std::system_error(code);
    throw std::system_error(code, f.text);
  }
  const std::string_view type = f.type;
  if (type == "std::runtime_error") throw std::runtime_error(f.text);
  if (type == "std::logic_error") throw std::logic_error(f.text);
  if (type == "std::out_of_range") throw std::out_of_range(f.text);
  if (type == "std::invalid_argument") throw std::invalid_argument(f.text);
  if (type == "std::length_error") throw std::length_error(f.text);
  if (type == "std::domain_error") throw std::domain_error(f.text);
  if (type == "std::range_error") throw std::range_error(f.text);
  if (type == "std::overflow_error") throw std::overflow_error(f.text);
  if (type == "std::underflow_error") throw std::underflow_error(f.text);
  if (type == "std::exception") throw std::exception();
  if (type == "std::bad_alloc") throw std::bad_alloc();
  if (type == "std::bad_array_new_length") throw std::bad_array_new_length();
  if (type == "std::bad_cast") throw std::bad_cast();
  if (type == "std::bad_typeid") throw std::bad_typeid();
  if (type == "std::bad_exception") throw std::bad_exception();
  if (type == "std::bad_optional_access") throw std::bad_optional_access();
  if (type == "std::bad_variant_access") throw std::bad_variant_access();
  if (type == "std::bad_function_call") throw std::bad_function_call();
  if (type == "std::bad_weak_ptr") throw std::bad_weak_ptr();
  throw command_error(f.type, f.text);
}

// By throwing, for std::make_exception_ptr costs three functions for each of these types.
inline std::exception_ptr put_together(const remote_failure& f) noexcept {
  try {
    throw_together(f);
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace pulsar::detail
