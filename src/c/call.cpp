// SPDX-License-Identifier: MIT
#include "c/call.hpp"

#include "c/handles.hpp"
#include "pith/session.hpp"
#include "pith/version.hpp"

namespace pith::c {

namespace {

// A status is an ErrorCode's number and one.
constexpr pith_status status_of(ErrorCode code) { return static_cast<pith_status>(code) + 1; }
static_assert(status_of(ErrorCode::file) == PITH_ERROR_FILE);
static_assert(status_of(ErrorCode::unsupported) == PITH_ERROR_UNSUPPORTED);
static_assert(status_of(ErrorCode::cancelled) == PITH_ERROR_CANCELLED);

struct Latest {
  Failure failure = {};
  bool told = true;  // false: there was no memory for the message
};
thread_local Latest latest;

}  // namespace

Failure failure_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const SequenceError& e) {
    return {status_of(e.code()), e.what(), static_cast<pith_sequence>(e.sequence())};
  } catch (const Error& e) {
    return {status_of(e.code()), e.what()};
  } catch (const std::bad_alloc&) {
    return {PITH_ERROR_MEMORY, "out of memory"};
  } catch (const std::exception& e) {
    return {PITH_ERROR_INTERNAL, e.what()};
  } catch (...) {
    return {PITH_ERROR_INTERNAL, "an exception that is no std::exception"};
  }
}

pith_status failed() noexcept {
  try {
    latest.failure = failure_of(std::current_exception());
    latest.told = true;
    return latest.failure.status;
  } catch (...) {
    latest.told = false;
    latest.failure.sequence = PITH_NO_SEQUENCE;
    return PITH_ERROR_MEMORY;
  }
}

}  // namespace pith::c

using namespace pith::c;

const char* pith_error_message(void) { return latest.told ? latest.failure.message.c_str() : "out of memory"; }

pith_sequence pith_error_sequence(void) { return latest.failure.sequence; }

const char* pith_status_name(pith_status status) {
  if (status == PITH_OK) return "ok";
  if (status >= PITH_ERROR_FILE && status <= PITH_ERROR_CANCELLED)
    return pith::name(static_cast<pith::ErrorCode>(status - 1)).data();  // a literal's
  if (status == PITH_ERROR_MEMORY) return "memory";
  return status == PITH_ERROR_INTERNAL ? "internal" : "unknown";
}

const char* pith_version(void) { return pith::version.data(); }

void pith_free(void* memory) { std::free(memory); }

pith_status pith_stop_create(pith_stop** stop) {
  return call(__func__, [&](const Given& given) {
    pith_stop*& out = given(stop, "stop");
    out = new pith_stop;
  });
}

pith_status pith_stop_request(pith_stop* stop) {
  return call(__func__, [&](const Given& given) { given(stop, "stop").source.request_stop(); });
}

void pith_stop_free(pith_stop* stop) { delete stop; }
