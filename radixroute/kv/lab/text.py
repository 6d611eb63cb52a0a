"""The text that perplexity is measured on: written for this lab, so no model knows it by heart.

Plain English prose of some thousand tokens. It returns to its people and places, as texts do: what
stood far above helps to guess what comes.
"""

from typing import Final

TEXT: Final = """\
The ferry to Harrow Island left at six in the morning, before the fog had made up its mind. Nora \
Bell stood at the rail with her collar up and a letter in her pocket that she had read nine \
times. It was from her uncle Tobias, who had kept the light on the island for thirty-one years, \
and who had never before written more than a postcard. The letter said that the lamp was to be \
replaced by a machine in the spring, that he did not mind, and that he would be glad if she came \
to help him count the books.

She had not known that there were books. The house beside the lighthouse had three rooms, and \
she remembered it as a place of rope, paint and tea. But when Tobias opened the door, he had to \
push it against a wall of paper. There were logs of the light in green cloth, one for each year. \
There were almanacs and tide tables. There were novels whose last pages were missing, because \
the keeper before him had used last pages to light the stove.

"I thought we might begin with the logs," said Tobias. "The museum on the mainland wants them. \
They want to know how many there are, and whether they are dry."

"And are they dry?" asked Nora.

"Some of them are," said her uncle, and put the kettle on.

They worked through the first day without talking much. Nora took a log from the pile, turned \
its pages, and called out the year; Tobias wrote it into a list. Each page was one night. The \
keeper put down when the lamp was lit, when it was put out, how much oil it had burned, how the \
wind stood, and which ships had passed. For most nights that was all. But on some nights there \
was a line more, in the same careful hand, under the heading of remarks. A whale, very near. \
Snow, and no sound at all. The cat has had four kittens in the oil store.

By the evening they had counted nineteen logs, and Nora had begun to read the remarks aloud. \
Tobias laughed at the whale. At the snow he grew quiet. He said that he remembered that night: \
it had been his second winter, and he had thought for a moment that he had gone deaf, until he \
heard his own watch.

On the second day the fog came back and the ferry did not. Nora found the log of the year in \
which her mother was born. She looked for the date, and there it was: lamp lit at half past \
four, wind from the north-east, two trawlers and a coal ship. Under remarks the keeper had \
written that his sister had a daughter, that both were well, and that he had let the light burn \
a quarter of an hour longer in the morning, for no reason that the Board of Lights would accept.

"You never told her that," said Nora.

"She never asked how long the light burned," said Tobias. "Nobody asks that. They ask whether it \
was lonely. I always say that it was not, because every ship that passes is somebody, and they \
all look at you, whether they want to or not."

The machine came in the spring, as the letter had said. It was a grey box no larger than a \
suitcase, and it needed neither oil nor a keeper. Two engineers set it up in one afternoon. They \
asked Tobias where the old lamp should go, and he told them that it should stay where it was, \
since the machine did not need the room. So the lamp stayed, with its brass and its great ring \
of glass, and beside it the grey box blinked once every ten seconds and was never late.

Nora took the logs to the mainland herself, thirty-one of them, in four crates that smelled of \
oil. The woman at the museum asked whether they were complete. Nora said that they were, but for \
one: the log of the last year was still on the island. Her uncle had asked to keep it a little \
longer. There were some pages left in it, he said, and although there was nothing to light any \
more and nothing to put out, the ships still passed, and somebody ought to write down their \
names.

The woman thought about this. Then she took the list, on which Tobias had written the years one \
under the other in his careful hand, and beside the last year she wrote, in pencil, that it was \
on loan to the keeper of the light.

Years later, when people came to the museum and asked for the story of Harrow Island, she showed \
them the whale, the snow and the kittens. She showed them the night on which the light had \
burned a quarter of an hour too long. And if they were the kind of people who ask good \
questions, she showed them the list, and the pencil, and told them about Nora, who had stood at \
the rail of the ferry in the fog and had counted, on her way back, every ship that passed.
"""
