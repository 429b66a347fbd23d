"""What the synthetic voices read. No sentence of the test set is in the training set."""

TRAIN = tuple(
    """\
The ferry leaves the northern harbour just before seven.
Could you pass me the jar of green olives, please?
A thin layer of frost covered every windscreen in the street.
My uncle repairs old clocks in a shed behind his house.
They measured the room twice and still bought the wrong carpet.
Fourteen geese flew low across the muddy field.
Why does the kitchen tap drip only at night?
She folded the map along the wrong crease again.
The choir practised in a chapel with a leaking roof.
Please keep your voice down while the baby is asleep.
Our bus broke down halfway up a very steep hill.
He owes me exactly nineteen pounds and sixty pence.
Wild thyme and clover grow between the paving stones.
The judge asked both lawyers to approach the bench.
Do you remember the name of that tiny island?
A loose shutter banged against the wall all evening.
The recipe calls for two onions and a pinch of ginger.
Nobody expected the youngest chess player to win.
They painted the fishing boat a bright shade of orange.
I would rather walk than wait another hour for a taxi.
The vet says our dog should eat a little less.
Heavy clouds gathered over the valley after lunch.
Which of these keys opens the garden gate?
The museum closes early on the third Monday of each month.
She whistled a cheerful tune while sorting the laundry.
Five hundred people signed the petition in one weekend.
A squirrel buried its acorns under my favourite bench.
The engine coughed twice and then fell silent.
We should have turned left at the old water mill.
His handwriting is so small that I need a magnifying glass.
Fresh bread and strong coffee make a very good breakfast.
The pilot apologised for the delay and the rough landing.
Have you ever seen a rainbow at midnight?
The carpenter sanded each shelf until it felt like glass.
They moved the piano through the window with a crane.
Too much sugar ruined the blackberry jam.
It takes eight minutes for sunlight to reach the earth.
The twins argue about whose turn it is to wash up.
A narrow path winds between the dunes and the marsh.
Turn off the heating before you leave the office.
Her grandmother taught geography for thirty years.
The shop on the corner sells candles, rope and umbrellas.
I dropped my phone into a bucket of soapy water.
What time does the evening train arrive from the coast?
Ripe peaches bruise if you stack them too high.
The referee blew her whistle and pointed to the spot.
Joy and George enjoyed the voyage more than they had hoped.
We counted twenty two swans on the frozen lake.
The thief left nothing behind except a single glove.
Moths have eaten several holes in my best jumper.
The audience laughed long before the joke was finished.
Is there enough room in the boot for four suitcases?
An owl hooted somewhere deep inside the wood.
The library charges ten pence a day for late books.
She threw the ball over the fence and shrugged.
The soup was hot, thick and full of pepper.
Every autumn the river floods the lower meadow.
He wore a purple scarf and a pair of yellow boots.
The dentist told him to brush more gently.
Could the neighbours possibly choose a quieter hobby?
Old maps show a village where the reservoir is now.
The puppy chewed through both of my slippers.
Our flight was cancelled because of thick fog.
Sand from the beach gets into absolutely everything.
The committee voted six to three against the plan.
I usually read for half an hour before bed.
That bridge was built long before my parents were born.
The cheese in the fridge smells worse than the bin.
Who left these wet towels on the bathroom floor?
A gentle breeze pushed the little boat towards the shore.
They celebrated with lemon cake and a bottle of cider.
The lift is broken, so please use the stairs.
Her new bicycle has eleven gears and no bell.
The mayor opened the bridge with a pair of giant scissors.
Most of the audience could not see the stage.
Rust had eaten through the bottom of the wheelbarrow.
Chop the carrots finely and fry them in butter.
The goalkeeper dived the wrong way both times.
How many spoons of flour did you put in?
The hedgehog curled itself into a tight brown ball.
My watch stopped at twenty five past nine.
They found a rusty anchor buried in the sand.
The teacher drew a large circle on the board.
Please fasten your seat belt and put your bag away.
Jasmine grows over the arch beside the front door.
The price of petrol rose again on Thursday.
A strange humming noise came from the basement.
You should wear gloves when you handle the nettles.
The children built a raft out of barrels and planks.
We spent the whole afternoon untangling fishing line.
Is the chemist still open on Sunday mornings?
The oak tree was struck by lightning last July.
He forgot his lines halfway through the second act.
Our cat prefers the cardboard box to the new basket.
The farmer ploughed the upper field before the rain came.
Several guests complained about the noisy pipes.
A good blanket is worth more than a poor heater.
The newspaper printed my letter on page twelve.
She ordered mushroom soup and a small glass of milk.
The bell rang three times and everybody stood up.
Where did you hide the chocolate biscuits this time?
The path was blocked by a fallen beech tree.
His brother works as a nurse on the night shift.
Steam rose slowly from the cup beside the keyboard.
The zoo has just welcomed a pair of young zebras.
They had to choose between the theatre and the zoo.
A rough voice answered the phone and hung up.
The weather turned mild during the first week of March.
I cannot find the charger for the smaller camera.
The queue stretched around the corner and past the bank.
Do not feed the pigeons in the market square.
She polished the brass handles until they shone.
The tent collapsed shortly after the storm began.
Ninety nine balloons would never fit in this car.
The sculptor carved a leaping hare from pale stone.
He poured the cold tea into a pot of ferns.
What would you do with an extra hour each day?
The kettle boils faster if you close the lid.
Both sisters learned to sail before they could swim.
A cloud of dust followed the truck down the track.
The waiter brought the wrong dish to every table.
Our street has been without power since Wednesday.
Thick ivy hid the door to the walled garden.
She speaks four languages but cannot whistle.
The washing machine shook the whole flat again.
Young foxes were playing behind the railway station.
I measured the doorway, and the sofa will not fit.
The athlete stretched for a while and tied her shoes.
Would you like your change in coins or notes?
A huge wooden ship once stood in this courtyard.
""".splitlines()
)

TEST = tuple(
    """\
The lighthouse keeper waved as our boat went past.
How far is it from the airport to your hotel?
A jug of cold milk stood on the marble counter.
The gardener planted forty tulips along the drive.
Somebody has parked a van across both of our gates.
My cousin bakes rye bread every Friday morning.
The violin was too expensive, so he rented a cello.
Are you sure that this mushroom is safe to eat?
The last page of the diary had been torn out.
Bright paper lanterns swung above the narrow alley.
We paid seventeen euros for two cups of tea.
The young actor tripped over the edge of the carpet.
She keeps her stamps in a shallow wooden drawer.
Thunder rolled around the hills for most of the night.
Who taught your parrot to imitate the doorbell?
The plumber fixed the boiler but flooded the hall.
Every chair in the waiting room was taken.
A heron stood quite still at the edge of the pond.
The orchestra tuned their instruments for a long while.
Put the fragile glasses on the highest shelf.
His speech was short, clear and rather funny.
Three of the eggs were cracked when I opened the box.
The cyclist shook the rain from her jacket.
Does this jacket come in a slightly larger size?
The cobbler stitched the sole with waxed thread.
They watched the eclipse through a piece of dark film.
Our guide knew the name of every single bird.
The vase survived the journey, but the mirror did not.
Fresh snow squeaked under the soles of our boots.
You will need a valid passport and two photographs.
""".splitlines()
)

SENTENCES = {"train": TRAIN, "test": TEST}
