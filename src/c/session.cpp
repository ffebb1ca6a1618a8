// SPDX-License-Identifier: MIT
#include "pith/session.hpp"

#include <filesystem>
#include <string>
#include <string_view>

#include "c/call.hpp"
#include "c/handles.hpp"
#include "c/options.hpp"

namespace pith::c {

namespace {

Logits logits_of(const Given& given, pith_logits logits) {
  if (logits < PITH_LOGITS_LAST || logits > PITH_LOGITS_NONE)
    given.refuse("logits is " + std::to_string(logits) + ", expected one of PITH_LOGITS_…");
  constexpr Logits all[] = {Logits::last, Logits::all, Logits::none};
  return all[logits];
}

/// The caller has the sequence with its note, or neither.
void hand_over(Session& session, const Restored& restored, pith_sequence& sequence, char** note) {
  try {
    if (note != nullptr) *note = copied(restored.note);
  } catch (...) {
    session.finish(restored.sequence);
    throw;
  }
  sequence = static_cast<pith_sequence>(restored.sequence);
}

}  // namespace
}  // namespace pith::c

using namespace pith::c;
using pith::SequenceId;

pith_status pith_session_create(const pith_model* model, const pith_session_options* options, pith_session** session) {
  return call(__func__, [&](const Given& given) {
    const pith::Model& of = given(model, "model").model;
    pith_session*& out = given(session, "session");
    out = new pith_session{pith::Session(of, session_options(given, options, of)), {}};
  });
}

void pith_session_free(pith_session* session) { delete session; }

pith_status pith_session_add(pith_session* session, const pith_token* tokens, size_t count, pith_logits logits,
                             pith_sequence* sequence) {
  return call(__func__, [&](const Given& given) {
    pith::Session& of = given(session, "session").session;
    pith_sequence& out = given(sequence, "sequence");
    out = static_cast<pith_sequence>(of.add(given(tokens, count, "tokens"), logits_of(given, logits)));
  });
}

pith_status pith_session_prompt(pith_session* session, pith_sequence sequence, const pith_token* tokens, size_t count,
                                pith_logits logits) {
  return call(__func__, [&](const Given& given) {
    given(session, "session")
        .session.prompt(SequenceId{sequence}, given(tokens, count, "tokens"), logits_of(given, logits));
  });
}

pith_status pith_session_push(pith_session* session, pith_sequence sequence, const pith_token* tokens, size_t count,
                              pith_logits logits) {
  return call(__func__, [&](const Given& given) {
    given(session, "session")
        .session.push(SequenceId{sequence}, given(tokens, count, "tokens"), logits_of(given, logits));
  });
}

pith_status pith_session_step(pith_session* session, const pith_stop* stop, const pith_output** outputs,
                              size_t* count) {
  return call(__func__, [&](const Given& given) {
    pith_session& of = given(session, "session");
    const pith_output*& rows = given(outputs, "outputs");
    size_t& n = given(count, "count");
    of.outputs.clear();
    for (const auto& [sequence, logits] : of.session.step(token_of(stop)))
      of.outputs.push_back({static_cast<pith_sequence>(sequence), logits.data(), logits.size()});
    rows = of.outputs.data();
    n = of.outputs.size();
  });
}

pith_status pith_session_idle(const pith_session* session, bool* idle) {
  return call(__func__, [&](const Given& given) { given(idle, "idle") = given(session, "session").session.idle(); });
}

pith_status pith_session_finish(pith_session* session, pith_sequence sequence) {
  return call(__func__, [&](const Given& given) { given(session, "session").session.finish(SequenceId{sequence}); });
}

pith_status pith_session_fork(pith_session* session, pith_sequence sequence, pith_sequence* fork) {
  return call(__func__, [&](const Given& given) {
    pith::Session& of = given(session, "session").session;
    pith_sequence& out = given(fork, "fork");
    out = static_cast<pith_sequence>(of.fork(SequenceId{sequence}));
  });
}

pith_status pith_session_save(const pith_session* session, pith_sequence sequence, void** bytes, size_t* length) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    void*& out = given(bytes, "bytes");
    size_t& n = given(length, "length");
    const std::string saved = of.save(SequenceId{sequence});
    out = copied(std::string_view(saved));
    n = saved.size();
  });
}

pith_status pith_session_save_file(const pith_session* session, pith_sequence sequence, const char* path,
                                   const char* note) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    of.save(SequenceId{sequence}, std::filesystem::path(&given(path, "path")), note != nullptr ? note : "");
  });
}

pith_status pith_session_restore(pith_session* session, const void* bytes, size_t length, pith_sequence* sequence) {
  return call(__func__, [&](const Given& given) {
    pith::Session& of = given(session, "session").session;
    const auto saved = given(static_cast<const std::byte*>(bytes), length, "bytes");
    pith_sequence& out = given(sequence, "sequence");
    out = static_cast<pith_sequence>(of.restore(saved).sequence);
  });
}

pith_status pith_session_restore_file(pith_session* session, const char* path, pith_sequence* sequence, char** note) {
  return call(__func__, [&](const Given& given) {
    pith::Session& of = given(session, "session").session;
    const std::filesystem::path file(&given(path, "path"));
    pith_sequence& out = given(sequence, "sequence");
    hand_over(of, of.restore(file), out, note);
  });
}

pith_status pith_session_mark(pith_session* session, pith_sequence sequence) {
  return call(__func__, [&](const Given& given) { given(session, "session").session.mark(SequenceId{sequence}); });
}

pith_status pith_session_rewind(pith_session* session, pith_sequence sequence, size_t length) {
  return call(__func__,
              [&](const Given& given) { given(session, "session").session.rewind(SequenceId{sequence}, length); });
}

pith_status pith_session_commit(pith_session* session, pith_sequence sequence) {
  return call(__func__, [&](const Given& given) { given(session, "session").session.commit(SequenceId{sequence}); });
}

pith_status pith_session_set_tau(pith_session* session, pith_sequence sequence, float tau) {
  return call(__func__,
              [&](const Given& given) { given(session, "session").session.set_tau(SequenceId{sequence}, tau); });
}

pith_status pith_session_keep(pith_session* session, pith_sequence sequence, const int32_t* positions, size_t count) {
  return call(__func__, [&](const Given& given) {
    given(session, "session").session.keep(SequenceId{sequence}, given(positions, count, "positions"));
  });
}

pith_status pith_session_forget(pith_session* session, pith_sequence sequence, size_t layer, const int32_t* positions,
                                size_t count) {
  return call(__func__, [&](const Given& given) {
    given(session, "session").session.forget(SequenceId{sequence}, layer, given(positions, count, "positions"));
  });
}

pith_status pith_session_length(const pith_session* session, pith_sequence sequence, size_t* length) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    size_t& out = given(length, "length");
    out = of.length(SequenceId{sequence});
  });
}

pith_status pith_session_stats(const pith_session* session, pith_stats** stats) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    pith_stats*& out = given(stats, "stats");
    out = in_c(of.stats());
  });
}

pith_status pith_session_sequence_stats(const pith_session* session, pith_sequence sequence, pith_stats** stats) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    pith_stats*& out = given(stats, "stats");
    out = in_c(of.stats(SequenceId{sequence}));
  });
}

pith_status pith_session_drop_at(const pith_session* session, pith_sequence sequence, int32_t** drop_at, size_t* layers,
                                 size_t* lanes, size_t* length) {
  return call(__func__, [&](const Given& given) {
    const pith::Session& of = given(session, "session").session;
    int32_t*& out = given(drop_at, "drop_at");
    size_t &n_layers = given(layers, "layers"), &n_lanes = given(lanes, "lanes"), &n = given(length, "length");
    const auto all = of.drop_at(SequenceId{sequence});
    std::vector<int32_t> flat;
    for (const auto& layer : all)
      for (const auto& lane : layer) flat.insert(flat.end(), lane.begin(), lane.end());
    out = copied(std::span<const int32_t>(flat));
    n_layers = all.size();
    n_lanes = all.front().size();
    n = all.front().front().size();
  });
}

pith_status pith_session_trim(pith_session* session, size_t* bytes) {
  return call(__func__, [&](const Given& given) {
    const std::size_t given_back = given(session, "session").session.trim();
    if (bytes != nullptr) *bytes = given_back;
  });
}
