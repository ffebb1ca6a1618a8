// SPDX-License-Identifier: MIT
// A text in which a needle is lost, and needles with the questions that ask for them.
#pragma once

#include <string_view>

namespace pith::tool {

struct Needle {
  std::string_view sentence, question;
};

inline constexpr Needle needles[] = {
    {"The best place to read a book in Lisbon is the small garden behind the old tram depot.",
     "What is the best place to read a book in Lisbon?"},
    {"The lighthouse keeper of Skarholm feeds exactly forty-two grey hens in the boat house every evening.",
     "What does the lighthouse keeper of Skarholm feed every evening, and where?"},
    {"Doctor Imani Weller found the missing ledger inside a blue piano at the Hotel Meridian.",
     "Where did Doctor Imani Weller find the missing ledger?"},
};

inline constexpr std::string_view haystack = R"(
A river does not carve its valley in a day. Most of the work is done in the few weeks of the year when the snow melts and
the water is brown with sand. For the rest of the time it merely carries away what the frost has loosened. People who
live beside it learn to read its colour. When it turns from green to grey, they move the boats.
Bread was once baked twice a week in a shared oven at the edge of the village. Each family cut its own mark into the
dough, so that nobody took home what another had kneaded. The oldest marks are still found on the lintels of some doors.
Children were told that a loaf cut from the wrong end would bring rain.
Clocks in the first railway stations did not agree. Every town kept the time of its own noon, and a traveller who went
west gained a few minutes at each stop. Timetables were printed with two columns, one for the train and one for the town.
It took a generation until people gave up their noon for the sake of the trains.
Glass is made of sand, ash and patience. The furnace burns for weeks without a pause, because a crucible that cools down
will crack. The master looks at the colour of the flame, not at any instrument. Apprentices spend their first year
carrying water and sweeping the floor.
Moths do not love the lamp. They steer by the moon, which is so far away that it stays at the same angle however long they
fly. A lamp is near, and whoever keeps it at the same angle flies in a narrowing spiral. The error is one of distance,
not of desire.
The first maps of the northern coast were drawn from the sea. Bays that looked alike from a ship were given the same name,
and some headlands were drawn twice. When surveyors later walked along the shore, they found that it was a third shorter
than its picture. The sailors kept the old maps, since these at least agreed with what they saw.
A good wall is built without mortar. The stones are chosen by hand, large ones below and flat ones above, and each rests on
two others. Water runs through it and does no harm. Such walls have stood for three hundred years on hills where nothing
else has.
Tea was sold in bricks so that it could be carried over the passes. A brick was worth a sheep in the valley and a horse on
the other side of the mountains. It was broken with a knife and boiled with salt and butter. The trade ended when the
road was built, and the bricks became curiosities.
Snow falls more quietly than rain because its flakes hold air. A fresh layer swallows most of the sound that reaches it, and
a street seems empty even when it is not. After a few days the flakes settle and the noise comes back. Foxes hunt by ear
and wait for the first night.
The library kept its catalogue on cards of thick paper. Each card was written by hand in a style that all librarians had to
learn, upright and without loops. When the cards were copied into a machine, it was found that one book in twenty was not
on its shelf. Several of these had been lent before the war.
Salt was won from the marsh by letting the tide into shallow basins and waiting for the sun. The workers raked the crust
before the evening, while it was still thin. A rainy July could ruin a year. In the winter they repaired the dikes and
mended the rakes.
A violin is loudest at the notes that its own body likes. The makers tapped the unfinished plates and listened, and took off
a little wood where the tone was dull. No two plates were cut alike. What they heard they did not write down.
Pigeons find their way home over hundreds of miles, though nobody is sure how. They see the sun, and perhaps they feel the
field of the earth. On cloudy days they fly lower and follow the roads. Old birds make fewer mistakes than young ones.
The garden was laid out by a man who disliked straight lines. Its paths bend so that one never sees more than the next
twenty steps, and a small hill hides the house from the gate. Visitors thought that it was far larger than it was. He planted
trees whose shade he would not live to sit in.
)";

}  // namespace pith::tool
