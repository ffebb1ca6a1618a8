// SPDX-License-Identifier: MIT
// Sessions: tokens in, logits out as arrays.
#include <algorithm>
#include <filesystem>
#include <variant>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/variant.h>

#include "bindings.hpp"

namespace pith::python {

Dict stats_of(const CacheStats& stats) {
  Dict all;
  all["policy"] = stats.policy;
  all["bytes_used"] = stats.bytes_used;
  all["bytes_shared"] = stats.bytes_shared;
  all["bytes_dense"] = stats.bytes_dense;
  all["bytes_reserved"] = stats.bytes_reserved;
  all["bytes_high_water"] = stats.bytes_high_water;
  all["bytes_state"] = stats.bytes_state;
  all["live_rows"] = stats.live_rows;
  all["seen_rows"] = stats.seen_rows;
  all["dropped_rows"] = stats.dropped_rows;
  return all;
}

Drops drops_of(const std::vector<std::vector<std::vector<std::int32_t>>>& drop_at) {
  const std::size_t layers = drop_at.size(), lanes = layers > 0 ? drop_at[0].size() : 0,
                    tokens = lanes > 0 ? drop_at[0][0].size() : 0;
  std::vector<std::int32_t> all;
  all.reserve(layers * lanes * tokens);
  for (const auto& layer : drop_at)
    for (const auto& lane : layer) all.insert(all.end(), lane.begin(), lane.end());
  return Drops(array(std::move(all), {layers, lanes, tokens}));
}

namespace {

Logits logits_named(const std::string& name) {
  if (name == "last") return Logits::last;
  if (name == "all") return Logits::all;
  if (name == "none") return Logits::none;
  fail(ErrorCode::argument, "logits", "last, all or none", "'" + name + "'");
}

/// Tokens, or embeddings [tokens, d_model] in place of them.
using Vectors = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Fed = std::variant<Ids, Vectors>;

/// What `f` gives for the one or the other, as the library takes them.
template <class F>
auto given(const Fed& fed, F&& f) {
  if (const auto* const ids = std::get_if<Ids>(&fed)) return f(span_of(*ids));
  const auto& vectors = std::get<Vectors>(fed);
  return f(View<const float>(vectors.data(), vectors.shape(0), vectors.shape(1)));
}

std::size_t count_of(const Fed& fed) {
  return std::visit([](const auto& all) { return all.shape(0); }, fed);
}

/// While other threads of Python run.
template <class F>
auto without_lock(F&& f) {
  const nb::gil_scoped_release release;
  return f();
}

/// Memory of logits that Python's arrays point into, as long as one of them is there.
nb::capsule owner_of(std::unique_ptr<Tensor<float>> logits) {
  return {logits.release(), [](void* p) noexcept { delete static_cast<Tensor<float>*>(p); }};
}

class PySession {
 public:
  PySession(const Model& model, const PyOptions& options) : options_(options), session_(model, options.session) {}

  using Id = std::uint32_t;
  template <class F>
  auto use(F&& f) {
    const InUse use(in_use_, "session");
    return f(session_);
  }

  Id add(const Fed& fed, const std::string& logits) {
    const InUse use(in_use_, "session");
    return static_cast<Id>(given(fed, [&](auto all) { return session_.add(all, logits_named(logits)); }));
  }

  /// Pairs of a sequence and its logits.
  nb::list step() {
    const InUse use(in_use_, "session");
    std::span<const Output> outputs;
    while (outputs.empty() && !session_.idle()) {
      hear_signals();
      outputs = pass();
    }
    nb::list all;
    if (outputs.empty()) return all;
    const nb::capsule owner = owner_of(std::make_unique<Tensor<float>>(session_.take_logits()));
    for (const Output& one : outputs)
      all.append(nb::make_tuple(static_cast<Id>(one.sequence), nb::ndarray<nb::numpy, const float, nb::ndim<1>>(
                                                                   one.logits.data(), {one.logits.size()}, owner)));
    return all;
  }

  /// Feeds one sequence: logits after each of the tokens.
  nb::ndarray<nb::numpy, const float, nb::ndim<2>> feed(const Fed& fed, std::optional<Id> sequence, bool decoded) {
    const InUse use(in_use_, "session");
    require(session_.idle(), ErrorCode::state, "feed: other tokens are pending; step() feeds those");
    const auto id = sequence ? std::optional(SequenceId{*sequence}) : own_;
    given(fed, [&](auto all) {
      if (!id)
        own_ = session_.add(all, Logits::all);
      else if (decoded)
        session_.push(*id, all, Logits::all);
      else
        session_.prompt(*id, all, Logits::all);
    });
    const std::size_t count = count_of(fed);
    auto logits = std::make_unique<Tensor<float>>();
    const auto vocabulary = static_cast<std::size_t>(session_.model().config().vocab_size);
    std::size_t done = 0;
    while (done < count && !session_.idle()) {
      hear_signals();
      const auto outputs = pass();
      if (outputs.size() == count) {  // all of them at once
        *logits = session_.take_logits();
        done = outputs.size();
        break;
      }
      if (done == 0) logits->resize(count, vocabulary);
      for (const Output& one : outputs) std::ranges::copy(one.logits, (*logits)[done++].begin());
    }
    require(done == count, ErrorCode::unsupported,
            "feed: the policy lets tokens leave between layers, and those have no logits");
    const float* const data = logits->data();
    return {data, {done, vocabulary}, owner_of(std::move(logits))};
  }

  /// Bytes that restore() makes the sequence of again.
  nb::bytes save(std::optional<Id> sequence) {
    const InUse use(in_use_, "session");
    const SequenceId id = own_or(sequence, "save");
    const std::string bytes = without_lock([&] { return session_.save(id); });
    return nb::bytes(bytes.data(), bytes.size());
  }

  void save_file(const std::filesystem::path& file, const std::string& note, std::optional<Id> sequence) {
    const InUse use(in_use_, "session");
    const SequenceId id = own_or(sequence, "save");
    without_lock([&] { session_.save(id, file, note); });
  }

  /// The sequence, and what was noted beside it. A session in which nothing was fed goes on with it.
  std::pair<Id, std::string> restore(const std::variant<nb::bytes, std::filesystem::path>& saved) {
    const InUse use(in_use_, "session");
    std::span<const std::byte> bytes;
    if (const auto* const given = std::get_if<nb::bytes>(&saved))
      bytes = {static_cast<const std::byte*>(given->data()), given->size()};
    const auto* const file = std::get_if<std::filesystem::path>(&saved);
    Restored restored =
        without_lock([&] { return file != nullptr ? session_.restore(*file) : session_.restore(bytes); });
    if (!own_) own_ = restored.sequence;
    return {static_cast<Id>(restored.sequence), std::move(restored.note)};
  }

  /// Session::compress by a replay of all that the sequence was fed.
  void replay(const Replay& how, std::optional<Id> sequence) {
    const InUse use(in_use_, "session");
    const SequenceId id = own_or(sequence, "kvzip");
    const std::span<const Token> fed = session_.tokens(id);
    const std::vector<Token> tokens(fed.begin(), fed.end());
    without_lock([&] { session_.compress(id, tokens, how); });
  }

  SequenceId own_or(std::optional<Id> sequence, const char* call) const {
    if (sequence) return SequenceId{*sequence};
    if (!own_) fail(ErrorCode::state, std::string(call) + ": nothing was fed");
    return *own_;
  }

  void finish(std::optional<Id> sequence) {
    const InUse use(in_use_, "session");
    const SequenceId id = own_or(sequence, "finish");
    session_.finish(id);
    if (own_ == id) own_.reset();
  }

 private:
  std::span<const Output> pass() {
    const std::span<const Output> outputs = without_lock([&] { return session_.pass(); });
    options_.raise_failures();
    return outputs;
  }

  bool in_use_ = false;
  PyOptions options_;
  Session session_;
  std::optional<SequenceId> own_;  // of feed()
};

std::vector<Position> positions_of(const Ids& ids) { return vector_of(ids); }

PyOptions options_of(const std::optional<PyPolicy>& policy, const std::string& kv,
                     const std::optional<std::string>& gate_keys, const std::optional<Threads>& threads, int chunk,
                     int context, std::size_t kv_budget, bool record_drops) {
  PyOptions options;
  if (policy) {
    options.session.policy = policy->policy;
    options.failures = policy->failures;
  }
  const auto pair = kv_pair_named(kv);
  if (!pair) fail(ErrorCode::argument, "kv", "f32, f16, bf16, q8_0, q4_0 or k=…,v=…", "'" + kv + "'");
  options.session.kv = *pair;
  if (gate_keys) {
    if (*gate_keys != "f32" && *gate_keys != "f16")
      fail(ErrorCode::argument, "gate_keys", "f32 or f16", "'" + *gate_keys + "'");
    options.session.gate_keys = *gate_keys == "f32" ? GateKeys::f32 : GateKeys::f16;
  }
  options.session.threads = threads;
  options.session.chunk = chunk;
  options.session.context = context;
  options.session.kv_budget = kv_budget;
  options.session.record_drops = record_drops;
  return options;
}

}  // namespace

void bind_session(nb::module_& module) {
  nb::class_<PyOptions>(module, "SessionOptions")
      .def(
          "__init__",
          [](PyOptions* self, const std::optional<PyPolicy>& policy, const std::string& kv,
             const std::optional<std::string>& gate_keys, const std::optional<Threads>& threads, int chunk, int context,
             std::size_t kv_budget, bool record_drops) {
            new (self) PyOptions(options_of(policy, kv, gate_keys, threads, chunk, context, kv_budget, record_drops));
          },
          "policy"_a = nb::none(), "kv"_a = "f32", "gate_keys"_a = nb::none(), "threads"_a = nb::none(),
          "chunk"_a = 256, "context"_a = 0, "kv_budget"_a = 0, "record_drops"_a = false);

  using Id = PySession::Id;
  nb::class_<PySession>(module, "Session", "Sequences in the making: tokens in, logits out.")
      .def(nb::init<const Model&, const PyOptions&>(), "model"_a, "options"_a)
      .def("add", &PySession::add, "tokens"_a, "logits"_a)
      .def(
          "prompt",
          [](PySession& self, Id sequence, const Fed& fed, const std::string& logits) {
            self.use([&](Session& s) {
              given(fed, [&](auto all) { s.prompt(SequenceId{sequence}, all, logits_named(logits)); });
            });
          },
          "sequence"_a, "tokens"_a, "logits"_a)
      .def(
          "push",
          [](PySession& self, Id sequence, const Fed& fed, const std::string& logits) {
            self.use([&](Session& s) {
              given(fed, [&](auto all) { s.push(SequenceId{sequence}, all, logits_named(logits)); });
            });
          },
          "sequence"_a, "tokens"_a, "logits"_a)
      .def("step", &PySession::step)
      .def("feed", &PySession::feed, "tokens"_a, "sequence"_a = nb::none(), "decoded"_a = false)
      .def("finish", &PySession::finish, "sequence"_a = nb::none())
      .def(
          "fork",
          [](PySession& self, std::optional<Id> sequence) {
            return self.use([&](Session& s) { return static_cast<Id>(s.fork(self.own_or(sequence, "fork"))); });
          },
          "sequence"_a = nb::none())
      .def("save", &PySession::save, "sequence"_a = nb::none())
      .def("save_file", &PySession::save_file, "file"_a, "note"_a = "", "sequence"_a = nb::none())
      .def("restore", &PySession::restore, "saved"_a)
      .def(
          "compress",
          [](PySession& self, Position begin, Position end, const Ids& pins, std::optional<Id> sequence) {
            self.use(
                [&](Session& s) { s.compress(self.own_or(sequence, "compress"), begin, end, positions_of(pins)); });
          },
          "begin"_a, "end"_a, "pins"_a, "sequence"_a = nb::none())
      .def(
          "replay",
          [](PySession& self, float share, int sinks, int chunk, int overlap, std::vector<Token> all,
             std::vector<Token> part, std::vector<Token> answer, std::optional<Id> sequence) {
            self.replay({.share = share,
                         .sinks = sinks,
                         .chunk = chunk,
                         .all = std::move(all),
                         .part = std::move(part),
                         .overlap = overlap,
                         .answer = std::move(answer)},
                        sequence);
          },
          "share"_a, "sinks"_a, "chunk"_a, "overlap"_a, "all"_a, "part"_a, "answer"_a, "sequence"_a = nb::none())
      .def(
          "mark",
          [](PySession& self, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.mark(self.own_or(sequence, "mark")); });
          },
          "sequence"_a = nb::none())
      .def(
          "commit",
          [](PySession& self, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.commit(self.own_or(sequence, "commit")); });
          },
          "sequence"_a = nb::none())
      .def(
          "rewind",
          [](PySession& self, std::size_t length, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.rewind(self.own_or(sequence, "rewind"), length); });
          },
          "length"_a, "sequence"_a = nb::none())
      .def(
          "set_tau",
          [](PySession& self, float tau, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.set_tau(self.own_or(sequence, "set_tau"), tau); });
          },
          "tau"_a, "sequence"_a = nb::none())
      .def(
          "keep",
          [](PySession& self, const Ids& positions, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.keep(self.own_or(sequence, "keep"), positions_of(positions)); });
          },
          "positions"_a, "sequence"_a = nb::none())
      .def(
          "forget",
          [](PySession& self, std::size_t layer, const Ids& positions, std::optional<Id> sequence) {
            self.use([&](Session& s) { s.forget(self.own_or(sequence, "forget"), layer, positions_of(positions)); });
          },
          "layer"_a, "positions"_a, "sequence"_a = nb::none())
      .def(
          "length",
          [](PySession& self, std::optional<Id> sequence) {
            return self.use([&](Session& s) { return s.length(self.own_or(sequence, "length")); });
          },
          "sequence"_a = nb::none())
      .def(
          "tokens",
          [](PySession& self, std::optional<Id> sequence) {
            return self.use([&](Session& s) {
              const auto fed = s.tokens(self.own_or(sequence, "tokens"));
              return array(std::vector<Token>(fed.begin(), fed.end()), {fed.size()});
            });
          },
          "sequence"_a = nb::none(), nb::rv_policy::automatic)
      .def(
          "stats",
          [](PySession& self, std::optional<Id> sequence) {
            return self.use(
                [&](Session& s) { return stats_of(sequence ? s.stats(SequenceId{*sequence}) : s.stats()); });
          },
          "sequence"_a = nb::none())
      .def(
          "drop_at",
          [](PySession& self, std::optional<Id> sequence) {
            return self.use([&](Session& s) { return drops_of(s.drop_at(self.own_or(sequence, "drop_at"))); });
          },
          "sequence"_a = nb::none())
      .def("trim", [](PySession& self) { return self.use([](Session& s) { return s.trim(); }); })
      .def_prop_ro("idle", [](PySession& self) { return self.use([](Session& s) { return s.idle(); }); })
      .def_prop_ro("context", [](PySession& self) { return self.use([](Session& s) { return s.context(); }); })
      .def_prop_ro("policy",
                   [](PySession& self) { return self.use([](Session& s) { return s.policy().describe(); }); });
}

}  // namespace pith::python
